/** Ctrl-C and the signals of those who end processes: the first asks to finish, a second one leaves at once. */
import { KaosError } from '../../bus/wire/errors.ts'
import { EXIT } from './exit-codes.ts'

/** One Ctrl-C may come twice: from the terminal, and from a parent that hands it on (npm, `kaos.js` on an old Node). */
const SAME_SIGNAL_MS = 300

const GRACE_SECONDS = { default: 25, max: 86_400 } as const

/** How long a process that is told to end may finish what is in hand, in milliseconds. Throws `bad_setting`. */
export function readGraceMs(env: NodeJS.ProcessEnv): number {
  const text = env.KAOS_GRACE_SECONDS || String(GRACE_SECONDS.default)
  const seconds = Number(text)
  if (Number.isInteger(seconds) && seconds >= 0 && seconds <= GRACE_SECONDS.max) return seconds * 1_000
  throw new KaosError('bad_setting', `KAOS_GRACE_SECONDS is "${text}"; whole seconds from 0 to ${GRACE_SECONDS.max} are needed`)
}

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
