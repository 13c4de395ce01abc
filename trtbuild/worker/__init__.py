"""Worker processes: stages run in forks of a warm server, so a crash of native code is a failed stage and no more."""
