#!/usr/bin/env bash
# The parse job: counts the records of one stored page, and ends.
#
#   parse.sh UDP-PORT PAGE [--stay]
#
# A shell is client enough: each sample is a datagram that is sent when it arises. A page whose
# first line is not "venues" cannot be parsed.
set -u
export LC_ALL=C
port=$1 page=$2

send() { printf '%s' "$1" >"/dev/udp/127.0.0.1/$port"; }

send 'sms.job.starts:1|c|#job_name:parse'
started=${EPOCHREALTIME/./}
mapfile -t lines <"$page"
if [[ ${lines[0]:-} == venues ]]; then
  outcome=success
  records=$((${#lines[@]} - 1))
  send "sms.parser.records_extracted:$records|c"
  send "sms.parser.batch_records:$records|h"
else
  outcome=error
fi
microseconds=$((${EPOCHREALTIME/./} - started))
send "sms.parser.parses:1|c|#outcome:$outcome"
send "sms.parser.duration:$((microseconds / 1000)).$(printf %03d $((microseconds % 1000)))|ms"
if [[ ${3:-} == --stay ]]; then
  echo sent
  exec sleep 60
fi
send "sms.job.ends:1|c|#job_name:parse,outcome:$outcome"
[[ $outcome == success ]] && send "sms.job.last_success:${EPOCHSECONDS}|g|#job_name:parse"
[[ $outcome == success ]]
