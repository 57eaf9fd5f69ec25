/** Named instants of a turn at which a test may end the process. In production nothing happens at any of them. */

export const CRASH_POINTS = [
  'after-pull',
  'before-append',
  'after-append',
  'after-send',
  'effect-in-flight',
  'after-effect',
  'before-conclude',
  'after-conclude',
  'before-ack',
] as const
export type CrashPointName = (typeof CRASH_POINTS)[number]

/** Called at every point; a promise that never resolves is a death. */
export type CrashPoint = (point: CrashPointName, task: string) => Promise<void> | undefined

export const neverCrash: CrashPoint = () => undefined

/**
 * Kills this process with SIGKILL at the point that KAOS_CRASH_AT names: `<point>` or `<point>:<hit>`, counted from 1 over all tasks of the
 * process.
 */
export function crashFromEnv(env: NodeJS.ProcessEnv): CrashPoint {
  const setting = env.KAOS_CRASH_AT
  if (!setting) return neverCrash
  const [wanted, hit = '1'] = setting.split(':')
  let hits = 0
  return (point) => {
    if (point !== wanted || ++hits !== Number(hit)) return undefined
    process.kill(process.pid, 'SIGKILL')
    return new Promise(() => {})
  }
}
