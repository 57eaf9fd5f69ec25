/** The HTTP door of this process: where it listens, the health that it takes over, and the bus behind it. */
import { readFileSync } from 'node:fs'
import { startHash } from '../../actors/actor.ts'
import { guarded } from '../../bus/connection.ts'
import type { NatsBus } from '../../bus/open.ts'
import { keyOf, rootTaskId } from '../../bus/wire/ids.ts'
import { parseDoorBody } from '../../bus/wire/message.ts'
import { doorAgent } from '../../gateway/agents.ts'
import { Gateway, type GatewayOptions } from '../../gateway/app.ts'
import type { Carrier, Door, ProgressEvent, TaskBody, TaskEnd } from '../../gateway/door.ts'
import { isLoopback, listen } from '../../gateway/server.ts'
import type { Agent } from '../../manifests/kinds/agent.ts'
import type { Logger } from '../../telemetry/log.ts'
import { sendTrace } from '../client/send-trace.ts'
import { newId, sendTask } from '../client/sending.ts'
import type { ListenAddress } from '../process/address.ts'
import { createProbe, type Health } from '../process/health.ts'
import { beginningAs } from '../task.ts'

/** Health, and once it is open a door to agents. */
export interface HttpDoor extends Health {
  /** From now on tasks are taken for these agents. */
  open(bus: NatsBus, agents: readonly Agent[]): void
  /** Answers all that wait, with the result if it is there. To be called while the bus is open and after the hosts have ended. */
  shut(): Promise<void>
}

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }

/** Throws `port_taken` when the address cannot be listened on. */
export async function serveHttp(
  address: ListenAddress,
  { log, ...limits }: Pick<GatewayOptions, 'log' | 'waitMs' | 'requestsMax' | 'takeMs' | 'largeBodiesBytesMax'>,
): Promise<HttpDoor> {
  const probe = createProbe()
  const gateway = new Gateway({ log, version, readiness: probe.readiness, isLoopback: isLoopback(address.host), ...limits })
  const server = await listen(gateway, address)
  return {
    url: server.url,
    watch: probe.watch,
    untilReady: probe.untilReady,
    drain() {
      probe.drain()
      gateway.drain()
    },
    open: (bus, agents) => gateway.open({ door: doorOf(bus, log), agents: agents.map(doorAgent) }),
    shut: () => gateway.shut(),
    stop: () => server.stop(),
  }
}

function doorOf(bus: NatsBus, log: Logger): Door {
  const { namespace } = bus
  return {
    open(agent, { id = newId(), carrier }) {
      const key = keyOf(namespace, agent, id)
      const address = { agent, key, task: rootTaskId(agent, key) }
      return { agent, id, task: address.task, traceId: sendTrace({ namespace, address, env: variables(carrier) }).traceId }
    },
    watch(ticket, onEvent) {
      const callback = guarded((_error, message) => onEvent(message.json<ProgressEvent>()), log)
      const subscription = bus.connection.subscribe(bus.subjects.progressOf(ticket.traceId), { callback })
      return () => subscription.unsubscribe()
    },
    async send({ agent, id }, body, carrier) {
      await sendTask(bus, agent, JSON.stringify(body), { id, env: variables(carrier) })
    },
    hashOf: (body: TaskBody) => startHash(parseDoorBody(JSON.stringify(body))),
    async begun({ agent, id, task }, hash) {
      const begun = await beginningAs(bus, { agent, key: keyOf(namespace, agent, id), task }, hash)
      return begun?.traceId
    },
    async wait({ agent, id }, { deadlineMs, signal }) {
      const text = await bus.results.wait(agent, keyOf(namespace, agent, id), { deadlineMs, signal })
      return text === undefined ? undefined : (JSON.parse(text) as TaskEnd)
    },
    toolsOf: (server) => bus.catalog.tools(server),
  }
}

/** The caller's trace context where senders of tasks look for it. */
function variables({ traceparent, tracestate, baggage }: Carrier): NodeJS.ProcessEnv {
  return { TRACEPARENT: traceparent, TRACESTATE: tracestate, BAGGAGE: baggage }
}
