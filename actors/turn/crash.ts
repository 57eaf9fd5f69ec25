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
