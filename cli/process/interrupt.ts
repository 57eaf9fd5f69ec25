/** Ctrl-C and the signals of those who end processes: the first asks to finish, a second one leaves at once. */
import { EXIT } from './exit-codes.ts'

/** One Ctrl-C may come twice: from the terminal, and from a parent that hands it on (npm, `kaos.js` on an old Node). */
const SAME_SIGNAL_MS = 300

/** Resolves at the first signal; from then on another one ends the process. */
export function interrupted(): Promise<'signal'> {
  return new Promise((resolve) => {
    let firstAt: number | undefined
    const take = () => {
      firstAt ??= performance.now()
      if (performance.now() - firstAt > SAME_SIGNAL_MS) process.exit(EXIT.interrupted)
      resolve('signal')
    }
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, take)
  })
}
