# What the command line of this project needs; make appends it to .venv/bin/activate.

# `dagster asset materialize` reads no pyproject.toml: this is how it finds the graph from any directory.
export DAGSTER_MODULE_NAME=streetvision_assets.definitions
export DAGSTER_HOME="${DAGSTER_HOME:-${VIRTUAL_ENV%/*}/dagster_home}"

# The servers that `dagster dev` starts refuse the variable beside the workspace that it hands them.
# Dagster would rather see its newer command line, and says so at every call of the one people know.
dagster() {
  local quiet='ignore:Function `asset_materialize_command`,ignore:Function `dev_command`,ignore:Function `job_execute_command`'
  quiet="${PYTHONWARNINGS:+$PYTHONWARNINGS,}$quiet"
  if [ "$1" = dev ]; then
    shift
    set -- dev -m "$DAGSTER_MODULE_NAME" -d "$VIRTUAL_ENV" "$@"
    PYTHONWARNINGS="$quiet" env -u DAGSTER_MODULE_NAME PYTHONSAFEPATH=1 "$VIRTUAL_ENV/bin/python" -m streetvision_assets.commands.dagster_command "$@"
  else
    PYTHONWARNINGS="$quiet" PYTHONSAFEPATH=1 "$VIRTUAL_ENV/bin/python" -m streetvision_assets.commands.dagster_command "$@"
  fi
}
