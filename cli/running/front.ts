/** Who asks this process from outside: OpenAI's clients for answers, probes whether it lives and takes work. Where that is, and who serves it. */
import type { Logger } from '../../telemetry/log.ts'
import type { ListenAddress } from '../process/address.ts'
import { defaultHealthAddress, type Health, serveHealth } from '../process/health.ts'
import type { Stopping } from '../process/stopping.ts'
import type { HttpDoor } from './gateway.ts'

export interface FrontOptions {
  readonly http?: ListenAddress | 'off' | undefined
  readonly health?: ListenAddress | 'off' | undefined
}

export interface Front {
  readonly http: HttpDoor | undefined
  /** The HTTP door itself where no other address is named. */
  readonly health: Health | undefined
}

/** Where a host serves: what is said, else in a pod both on its one port, and HTTP only where there is an agent. */
export function hostFront(options: FrontOptions, env: NodeJS.ProcessEnv, { hasAgents }: { readonly hasAgents: boolean }) {
  const otherwise = defaultHealthAddress(env) ?? 'off'
  const http = hasAgents ? (options.http ?? otherwise) : 'off'
  return { http, health: options.health ?? (http === 'off' ? otherwise : 'off') }
}

/** Before everything else, and stopped last: alive means that this process answers. */
export async function startFront(
  { http: httpAddress = 'off', health: healthAddress = 'off' }: FrontOptions,
  log: Logger,
  stopping: Stopping,
): Promise<Front> {
  const http = httpAddress === 'off' ? undefined : await (await import('./gateway.ts')).serveHttp(httpAddress, { log })
  if (http) stopping.add(() => http.stop())
  const own = healthAddress === 'off' ? undefined : await serveHealth(healthAddress)
  if (own) stopping.add(() => own.stop())
  return { http, health: http && own ? bothOf(http, own) : (own ?? http) }
}

/** Health at an address of its own, and beside the HTTP door. */
function bothOf(http: HttpDoor, own: Health): Health {
  return {
    url: own.url,
    watch(bus) {
      for (const health of [http, own]) health.watch(bus)
    },
    untilReady: () => own.untilReady(),
    drain() {
      for (const health of [http, own]) health.drain()
    },
    stop: () => own.stop(),
  }
}

/** For programs. */
export function frontPlaces({ http, health }: Front) {
  return { ...(http && { http: http.url }), ...(health && { health: health.url }) }
}

/** For people. */
export function frontLines({ http, health }: Front): readonly string[] {
  return [
    ...(http ? [`HTTP    ${http.url}/v1 (for OpenAI's clients; the model is the agent)`] : []),
    ...(health ? [`health  ${health.url}/health and /ready`] : []),
  ]
}
