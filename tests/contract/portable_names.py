"""The names of `os` that Windows does not have, as far as somebody could want them here."""

POSIX_ONLY = (
    "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_DSYNC", "O_SYNC", "fwalk", "pread", "preadv",
    "pwrite", "pwritev", "fchmod", "fchown", "fchdir", "chown", "lchown", "fdatasync", "getuid", "geteuid",
    "getgid", "sched_getaffinity", "mkfifo", "mknod", "statvfs", "fstatvfs", "posix_fadvise", "sendfile",
    "copy_file_range", "killpg", "sync",
)  # fmt: skip
