/** Startup, readiness and liveness probes of one container, with the periods and thresholds of its spec. */
import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { ContainerSpec } from './environment.ts'

/** As it stands in the spec of a container. */
// biome-ignore lint/suspicious/noExplicitAny: what the API server has checked
export type ProbeSpec = any

export interface ProbeTarget {
  readonly container: ContainerSpec
  readonly podIp: string
  /** Runs a command in the container's environment; its exit code. */
  readonly execute: (command: readonly string[], signal: AbortSignal) => Promise<number>
}

export interface ProbeResults {
  onStarted(): void
  onReady(isReady: boolean): void
  /** The liveness or startup probe has failed often enough: the container has to go. */
  onDead(why: string): void
}

/** Probes until the signal. Without a startup probe the container counts as started at once, without a readiness probe as ready then. */
export async function runProbes(target: ProbeTarget, results: ProbeResults, signal: AbortSignal): Promise<void> {
  const { startupProbe, readinessProbe, livenessProbe } = target.container
  if (startupProbe) {
    const outcome = await probeUntil(startupProbe, target, signal)
    if (signal.aborted) return
    if (outcome === 'failed') return results.onDead('Startup probe failed')
  }
  results.onStarted()
  if (!readinessProbe) results.onReady(true)
  await Promise.all([
    readinessProbe && watchProbe(readinessProbe, target, results.onReady, signal),
    livenessProbe && watchProbe(livenessProbe, target, (isAlive) => isAlive || results.onDead('Liveness probe failed'), signal),
  ])
}

async function probeUntil(probe: ProbeSpec, target: ProbeTarget, signal: AbortSignal): Promise<'passed' | 'failed' | undefined> {
  const stop = new AbortController()
  let outcome: 'passed' | 'failed' | undefined
  const onResult = (isFine: boolean) => {
    outcome = isFine ? 'passed' : 'failed'
    stop.abort()
  }
  await watchProbe(probe, target, onResult, AbortSignal.any([signal, stop.signal]))
  return outcome
}

/** Calls `onResult` when the thresholds say that the result is another than before; it is unknown at first. */
async function watchProbe(
  probe: ProbeSpec,
  target: ProbeTarget,
  onResult: (isFine: boolean) => void,
  signal: AbortSignal,
): Promise<void> {
  const { initialDelaySeconds = 0, periodSeconds = 10, successThreshold = 1, failureThreshold = 3 } = probe
  await delay(initialDelaySeconds * 1_000, undefined, { signal }).catch(() => {})
  let settled: boolean | undefined
  let last: boolean | undefined
  let streak = 0
  while (!signal.aborted) {
    const isFine = await probeOnce(probe, target, signal)
    if (signal.aborted) return
    streak = isFine === last ? streak + 1 : 1
    last = isFine
    if (isFine !== settled && streak >= (isFine ? successThreshold : failureThreshold)) {
      settled = isFine
      onResult(isFine)
    }
    await delay(periodSeconds * 1_000, undefined, { signal }).catch(() => {})
  }
}

async function probeOnce(probe: ProbeSpec, target: ProbeTarget, signal: AbortSignal): Promise<boolean> {
  const { timeoutSeconds = 1, httpGet, tcpSocket, exec } = probe
  const limit = AbortSignal.any([signal, AbortSignal.timeout(timeoutSeconds * 1_000)])
  try {
    if (httpGet) return await askHttp(httpGet, target, limit)
    if (tcpSocket) return await askTcp(tcpSocket, target, limit)
    if (exec) return (await target.execute(exec.command, limit)) === 0
    throw new Error(`probes of kind "${Object.keys(probe).join()}" are not known here`)
  } catch {
    return false
  }
}

// biome-ignore lint/suspicious/noExplicitAny: an HTTPGetAction
export function askHttp(action: any, target: ProbeTarget, signal: AbortSignal): Promise<boolean> {
  const { path = '/', port, scheme = 'HTTP', httpHeaders = [], host } = action
  const headers = Object.fromEntries(httpHeaders.map(({ name, value }: { name: string; value: string }) => [name, value]))
  const options = { host: host || target.podIp, port: portNumber(port, target.container), path, headers, signal, agent: false }
  return new Promise((resolve, reject) => {
    // A kubelet does not check certificates either.
    const outgoing = scheme === 'HTTPS' ? httpsRequest({ ...options, rejectUnauthorized: false }) : httpRequest(options)
    outgoing.once('error', reject)
    outgoing.once('response', (incoming) => {
      incoming.resume()
      resolve(incoming.statusCode! >= 200 && incoming.statusCode! < 400)
    })
    outgoing.end()
  })
}

function askTcp(
  { port, host }: { port: number | string; host?: string },
  target: ProbeTarget,
  signal: AbortSignal,
): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: host || target.podIp, port: portNumber(port, target.container), signal })
    socket.once('error', reject)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
  })
}

function portNumber(port: number | string, container: ContainerSpec): number {
  if (typeof port === 'number') return port
  const named = container.ports?.find(({ name }: { name?: string }) => name === port)
  return named?.containerPort ?? Number(port)
}
