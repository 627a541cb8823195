#!/usr/bin/env bash
# Shows what is dead in a group and why, asks, sends it to that group again, and says what became of each:
#
#     deploy/replay-dlq.sh [--group billing] [--id <topic/partition/offset>] [--max <n>] [--dry-run] [--yes]
#
# 0: all ended well, or nothing was dead. 1: something did not.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/system" dlq replay "$@"
