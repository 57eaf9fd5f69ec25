/** Lets a test end this process at a named instant of its work. In production nothing happens at any of them. */

/**
 * Kills this process with SIGKILL at the point that KAOS_CRASH_AT names: `<point>` or `<point>:<hit>`, counted from 1 over all that is handed
 * the same one.
 */
export function crashFromEnv(env: NodeJS.ProcessEnv): (point: string) => Promise<void> | undefined {
  const setting = env.KAOS_CRASH_AT
  if (!setting) return () => undefined
  const [wanted, hit = '1'] = setting.split(':')
  let hits = 0
  return (point) => {
    if (point !== wanted || ++hits !== Number(hit)) return undefined
    process.kill(process.pid, 'SIGKILL')
    return new Promise(() => {})
  }
}
