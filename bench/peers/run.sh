#!/usr/bin/env bash
# Runs every tool's script, one after the other: run.sh BIN, where BIN is the folder of `make build`.
# A tool that is not on this machine is skipped, and the script says why. To add a tool, add a script.
# Files are in memory where there is a tmpfs: between two runs a disk differs by more than
# the tools do. With TMPDIR set they are there.
set -euo pipefail
if [[ -z ${TMPDIR:-} && -w /dev/shm ]]; then export TMPDIR=/dev/shm; fi
bin=$(cd "${1:?usage: run.sh BIN}" && pwd)
cd "$(dirname "$0")"
for script in *.sh; do
	case $script in
	lib.sh | run.sh) ;;
	*) BIN=$bin bash "./$script" ;;
	esac
done
