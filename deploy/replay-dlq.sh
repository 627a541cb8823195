#!/usr/bin/env bash
# Lists the dead letters of a group with their reasons, asks for confirmation, replays them in that group, and prints
# the outcome of each:
#
#     deploy/replay-dlq.sh [--group billing] [--id <id>] [--max <n>] [--dry-run] [--yes] [--why <reason>] ..
#
# Works on the containers or on `make local`, whichever is running. `orderflow dlq replay --help` lists all options.
# Exit status: 0 if all were processed, or there were none; 1 if some were not; 2 for wrong usage.
set -euo pipefail

group=(--group billing)
why=(--why "deploy/replay-dlq.sh")
for argument in "$@"; do
    case $argument in
    --group | --group=* | --id | --id=*) group=() ;;
    --why | --why=*) why=() ;;
    esac
done
# Bash 3 treats an empty array as unset.
exec "$(dirname "${BASH_SOURCE[0]}")/system" dlq replay ${group[@]+"${group[@]}"} ${why[@]+"${why[@]}"} "$@"
