# What a reader does with the sh blocks of one page, in one shell. Sourced before them by reader.ts; OUT is a folder for what they print.

set -eE -o pipefail
trap 'echo "$BASH_COMMAND (exit code $?)" >>"$OUT/failed"' ERR
trap 'leave' EXIT

LEFT_RUNNING=()
UP_HERE=

# begins a block: from here on all goes to a file of its own
block() {
  exec >"$OUT/$1" 2>&1
}

# place SOURCE PATH: a file that the page shows, written where the reader is
place() {
  mkdir -p "$(dirname "$2")"
  cp "$OUT/$1" "$2"
}

# stays READY COMMAND: another terminal. Waits for what the command says when it is ready. A second "kaos up" in a folder ends the first.
stays() {
  local log
  log=$(mktemp "$OUT/stays.XXXXXX")
  [[ $2 == *'kaos up '* && $UP_HERE == "$PWD "* ]] && end "${UP_HERE##* }"
  (eval "exec $2") >"$log" 2>&1 &
  local pid=$!
  LEFT_RUNNING+=("$pid")
  grep -qm1 -- "$1" <(tail -n +1 -f --pid="$pid" "$log") || { cat "$log"; false; }
  cat "$log"
  if [[ $2 == *'kaos up '* ]]; then
    UP_HERE="$PWD $pid"
    BROKER=$(sed -n 's#^ *NATS *nats://\([^ ]*\).*#\1#p' "$log")
  fi
}

# exits CODE COMMAND: a command whose exit code is the point
exits() {
  local code=0
  eval "$2" || code=$?
  [[ $code == "$1" ]] || { echo "exit code $code, expected $1"; false; }
}

end() {
  kill -TERM "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

leave() {
  trap - ERR
  for pid in "${LEFT_RUNNING[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  wait
}
