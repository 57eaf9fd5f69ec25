/**
 * Runs nats-server under a small shell that ends it when this process ends, however it ends: the shell's stdin is a pipe that only we hold,
 * and the kernel closes it also after kill -9. A shell costs 2 ms and 1 MB; a second Node would cost 40 ms and 45 MB.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'

/** How long the server has to end after SIGTERM before it is killed. */
export const WATCHDOG_GRACE_MS = 5_000

/*
 * Two processes watch. The guard waits for the end of the pipe, also if somebody kills the shell; the shell waits for the server and ends
 * with its exit code. A background job gets /dev/null as stdin, hence descriptor 3. `wait` returns early when a trap ran, hence the loop.
 */
const SCRIPT = `
exec 3<&0 </dev/null
"$1" -c "$2" 3<&- >>"$3" 2>&1 &
server=$!
grace=$4
end_server() {
  kill -TERM "$server" 2>/dev/null
  tenths=0
  while kill -0 "$server" 2>/dev/null && [ "$tenths" -lt "$grace" ]; do sleep 0.1; tenths=$((tenths + 1)); done
  kill -KILL "$server" 2>/dev/null
}
( trap '' TERM INT HUP; cat <&3 >/dev/null; end_server ) >/dev/null 2>&1 &
guard=$!
trap 'end_server 3<&- >/dev/null 2>&1 &' TERM INT HUP
echo "$server"
exec 3<&- >/dev/null 2>&1
while :; do
  wait "$server"
  code=$?
  kill -0 "$server" 2>/dev/null || break
done
kill -KILL "$guard"
exit "$code"
`

export interface ServerExit {
  /** As the shell counts: 128 and the signal's number when the server was killed. */
  readonly code: number
}

export interface Watched {
  /** Of nats-server itself. */
  readonly pid: number
  /** Resolves when the server is gone; never rejects. */
  readonly exited: Promise<ServerExit>
  /** Asks the server to end and kills it after its grace. */
  end(): void
  /** Kills the server at once; what watches it ends with it. */
  kill(): void
}

/**
 * Starts `binary -c config` with its output appended to `logFile`. The server is in a session of its own: Ctrl-C at the terminal reaches us
 * and not it, so that draining can finish before the broker goes. Rejects when not even the shell starts.
 */
export async function runWatched(binary: string, config: string, logFile: string, graceMs = WATCHDOG_GRACE_MS): Promise<Watched> {
  const shell = spawn(
    '/bin/sh',
    ['-c', SCRIPT, 'kaos-nats-watchdog', binary, config, logFile, String(Math.ceil(graceMs / 100))],
    {
      detached: true,
      stdio: ['pipe', 'pipe', 'ignore'],
    },
  )
  shell.stdin.on('error', () => {}) // the shell is gone: its exit says so
  const ended = new Promise<number | null>((resolve) => shell.once('exit', resolve))
  const pid = await firstNumber(shell)
  let isGone = false
  const exited = ended.then((code): ServerExit => {
    // Somebody killed the shell: its guard still watches, but nobody would learn how the server ends.
    if (code === null) killQuietly(pid)
    isGone = true
    shell.stdin.destroy()
    return { code: code ?? 137 }
  })
  return {
    pid,
    exited,
    end: () => void shell.stdin.end(),
    kill: () => {
      if (isGone) return
      killQuietly(pid)
    },
  }
}

function firstNumber(shell: ChildProcessByStdio<Writable, Readable, null>): Promise<number> {
  return new Promise((resolve, reject) => {
    let text = ''
    shell.once('error', reject)
    shell.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      if (text.includes('\n')) resolve(Number(text))
    })
    shell.stdout.once('end', () => reject(new Error('the shell ended before it started anything')))
  })
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // it is gone already
  }
}
