/** Versions of nats-server: the oldest that is accepted and the one that is fetched and tested. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

export const SERVER_VERSION_MIN = '2.12.0'
export const SERVER_VERSION_PINNED = '2.15.2'
const ASK_MS = 5_000

/** Whether a server of this version is new enough. A pre-release counts as its release; text that is no version does not pass. */
export function isServerVersionEnough(version: string): boolean {
  const [major, minor] = partsOf(version)
  const [majorMin, minorMin] = partsOf(SERVER_VERSION_MIN)
  return major > majorMin || (major === majorMin && minor >= minorMin)
}

/** Runs `<path> --version`. Throws when the file cannot be run or says anything but a version. */
export async function askServerVersion(path: string, signal?: AbortSignal): Promise<string> {
  const { stdout } = await promisify(execFile)(path, ['--version'], {
    timeout: ASK_MS,
    killSignal: 'SIGKILL',
    ...(signal ? { signal } : {}),
  })
  const version = /^nats-server: v(\d+\.\d+\.\d+\S*)/.exec(stdout)?.[1]
  if (version === undefined) throw new Error(`"${path} --version" answered "${stdout.trim().slice(0, 80)}"`)
  return version
}

function partsOf(version: string): readonly [number, number] {
  const match = /^v?(\d+)\.(\d+)/.exec(version)
  return match ? [Number(match[1]), Number(match[2])] : [-1, -1]
}
