# What the command line of this project needs; make appends it to .venv/bin/activate.

# `dagster asset materialize` reads no pyproject.toml: this is how it finds the graph from any directory.
export DAGSTER_MODULE_NAME=streetvision_assets.definitions
export DAGSTER_HOME="${DAGSTER_HOME:-${VIRTUAL_ENV%/*}/dagster_home}"

# The servers that `dagster dev` starts refuse the variable beside the workspace that it hands them.
# Its web server is guarded against pages of strangers (streetvision_assets/serve.py).
# Dagster would rather see its newer command line, and says so at every call of the one people know.
dagster() {
  local quiet='ignore:Function `asset_materialize_command`,ignore:Function `dev_command`,ignore:Function `job_execute_command`'
  quiet="${PYTHONWARNINGS:+$PYTHONWARNINGS,}$quiet"
  if [ "$1" = dev ]; then
    shift
    PYTHONWARNINGS="$quiet" env -u DAGSTER_MODULE_NAME \
      "$VIRTUAL_ENV/bin/python" -P -m streetvision_assets.serve dev -m "$DAGSTER_MODULE_NAME" "$@"
  elif [ "$1 ${2-}" = 'asset materialize' ]; then
    PYTHONWARNINGS="$quiet" _streetvision_materialize "$@"
  else
    PYTHONWARNINGS="$quiet" "$VIRTUAL_ENV/bin/dagster" "$@"
  fi
}

# Without a logger in its configuration Dagster prints traces, and only a configuration can name ours. Dagster
# takes files or JSON and not both; JSON is YAML, so --config-json goes in as one file more.
_streetvision_materialize() {
  local word json='' next=''
  for word in "$@"; do
    shift
    case "$next$word" in
      --config-json) next=json: ;;
      json:*) json="$word" next='' ;;
      --config-json=*) json="${word#*=}" ;;
      *) set -- "$@" "$word" ;;
    esac
  done
  set -- "$@" -c "${VIRTUAL_ENV%/*}/dagster_home/console.yaml"
  if [ -n "$json" ]; then
    printf '%s\n' "$json" | "$VIRTUAL_ENV/bin/dagster" "$@" -c /dev/stdin
  else
    "$VIRTUAL_ENV/bin/dagster" "$@"
  fi
}
