/** Ends processes when this one ends, however it ends: kill -9 and a crash of the test runner included. */
import { spawn } from 'node:child_process'

/*
 * The shell's stdin is a pipe that only we hold, so it reads its end when we are gone. Every process it is told of leads a group of its own
 * (`detached`), and the whole group goes. The shell is in a session of its own, so that Ctrl-C does not reach it.
 */
const SCRIPT = `
trap '' TERM INT HUP
pids=' '
while read -r what pid; do
  case $what in
    watch) pids="$pids$pid " ;;
    forget) pids="\${pids%% $pid *} \${pids#* $pid }" ;;
    leave) exit 0 ;;
  esac
done
for pid in $pids; do kill -KILL "-$pid" 2>/dev/null || kill -KILL "$pid" 2>/dev/null; done
if [ -n "$1" ]; then rm -rf "$1"; fi
`

export interface Guard {
  /** Of the shell that watches. */
  readonly pid: number
  /** The process must lead a group of its own (`detached: true`). */
  watch(pid: number): void
  /** To be called when the process is gone, because its number may come again. */
  forget(pid: number): void
  /** Ends the guard; nothing happens to what it watched. */
  leave(): void
}

/** `folder` is removed too when this process ends before `leave`. */
export function startGuard(folder = ''): Guard {
  const shell = spawn('/bin/sh', ['-c', SCRIPT, 'kaos-testplane-guard', folder], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  shell.on('error', (error) => console.error(`could not start the guard of the test plane: ${error.message}`))
  shell.stdin.on('error', () => {}) // the shell is gone: then nobody watches any more, which harms only after a crash
  // Neither the shell nor its pipe keeps this process alive.
  shell.unref()
  ;(shell.stdin as typeof shell.stdin & { unref(): void }).unref()
  const watched = new Set<number>()
  return {
    pid: shell.pid!,
    watch(pid) {
      watched.add(pid)
      shell.stdin.write(`watch ${pid}\n`)
    },
    forget(pid) {
      if (watched.delete(pid)) shell.stdin.write(`forget ${pid}\n`)
    },
    leave() {
      shell.stdin.end('leave\n')
    },
  }
}
