#!/usr/bin/env bash
# One command of the pipeline as a job: its metrics have a group of their own, at tallyd and at each
# Pushgateway that tallyd pushes to, whatever becomes of the command.
#
#   pipeline.sh ingest PAGES STORE [--stay]
#   pipeline.sh parse PAGE [--stay]
#   pipeline.sh gateway INBOX STORE
#
# TALLYCTL_RUN may hold more flags of `tallyctl run`, as --socket=/run/tallyd/admin.sock.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
command=$1
shift
case $command in
  ingest) run='exec python3 "$0/ingest.py" "unixgram:$STATSD_SOCKET" "$@"' ;;
  parse) run='exec "$0/parse.sh" "$STATSD_PORT" "$@"' ;;
  gateway) run='exec python3 "$0/gateway.py" "unixgram:$STATSD_SOCKET" "$@"' ;;
  *) echo "pipeline.sh: no command is called $command" >&2 && exit 2 ;;
esac
# shellcheck disable=SC2086
exec ${TALLYCTL:-tallyctl} run --job=scraper --instance="$command" ${TALLYCTL_RUN:-} -- \
  bash -c "$run" "$here" "$@"
