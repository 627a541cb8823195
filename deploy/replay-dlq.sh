#!/usr/bin/env bash
# Shows the dead letters of a group and why they died, asks, replays them in that group, and tells the outcome of each:
#
#     deploy/replay-dlq.sh [--group billing] [--id <id>] [--max <n>] [--dry-run] [--yes] [--why <reason>] ..
#
# On the containers or on `make local`, whichever runs. `orderflow dlq replay --help` has all options.
# 0: all ended well, or nothing was dead. 1: something did not. 2: wrong usage.
set -euo pipefail

group=(--group billing)
why=(--why "deploy/replay-dlq.sh")
for argument in "$@"; do
    case $argument in
    --group | --group=* | --id | --id=*) group=() ;;
    --why | --why=*) why=() ;;
    esac
done
# Bash 3 takes an empty list for an unset one.
exec "$(dirname "${BASH_SOURCE[0]}")/system" dlq replay ${group[@]+"${group[@]}"} ${why[@]+"${why[@]}"} "$@"
