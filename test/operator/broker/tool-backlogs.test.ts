/** Backlogs of tool servers from a real server. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { connectBroker, type NatsConnection } from '../../../bus/connection.ts'
import { createStreams } from '../../../bus/streams.ts'
import { BrokerLink } from '../../../operator/broker/link.ts'
import type { ResourceRef } from '../../../operator/broker/owner.ts'
import { ToolBacklogs } from '../../../operator/broker/tool-backlogs.ts'
import { silentLog } from '../../../telemetry/log.ts'
import { startTestBroker, type TestBroker } from '../../support/broker.ts'

const A: ResourceRef = { namespace: 'default', name: 'a' }
const B: ResourceRef = { namespace: 'other', name: 'a' }

let broker: TestBroker
let connection: NatsConnection
let link: BrokerLink
let changes: (readonly [string, number | undefined])[]
let missing: ResourceRef[]
let backlogs: ToolBacklogs
beforeEach(async () => {
  broker = await startTestBroker()
  connection = await connectBroker(broker.settings, { name: 'test', log: silentLog() })
  await createStreams(connection, { namespace: 'default', agents: ['a'], tools: ['a'] })
  await createStreams(connection, { namespace: 'other', agents: [], tools: ['a'] })
  link = new BrokerLink({ settings: broker.settings, log: silentLog() })
  await new Promise<void>((resolve) => link.onConnect(resolve))
  changes = []
  const onChange = ({ namespace, name }: ResourceRef, backlog: number | undefined) =>
    void changes.push([`${namespace}/${name}`, backlog])
  missing = []
  backlogs = new ToolBacklogs({ link, log: silentLog(), onChange, onMissing: (server) => missing.push(server) })
})
afterEach(async () => {
  backlogs.close()
  await link.close()
  await connection.close()
  await broker.stop()
})

const call = ({ namespace, name }: ResourceRef, effect: string) =>
  connection.request(`kaos.${namespace}.tool.${name}.call.agent.a.${effect}`, 'a call')

describe('backlogs of tool servers', () => {
  it('are those of each, told when they are first known and when they change', async () => {
    backlogs.watch(A)
    backlogs.watch(B)

    await backlogs.look()
    await call(B, 'a_t_0-0')
    await call(B, 'a_t_0-1')
    await backlogs.look()
    await backlogs.look()

    expect(changes).toEqual([
      ['default/a', 0],
      ['other/a', 0],
      ['other/a', 2],
    ])
    expect([...backlogs.all()]).toEqual([
      [A, 0],
      [B, 2],
    ])
  })

  it('are what was known before until they were looked at', async () => {
    backlogs.watch(A)

    const before = backlogs.of(A, 7)
    await backlogs.look()

    expect([before, backlogs.of(A, 7)]).toEqual([7, 0])
  })

  it('are not known without a stream, which is told, nor without a broker, which is not', async () => {
    const gone = { namespace: 'default', name: 'gone' }
    for (const server of [A, gone]) backlogs.watch(server)
    await backlogs.look()
    const withBroker = [backlogs.of(A), backlogs.of(gone)]
    const missingWithBroker = [...missing]

    await link.close()
    await backlogs.look()

    expect(withBroker).toEqual([0, undefined])
    expect([missingWithBroker, missing]).toEqual([[gone], [gone]])
    expect(backlogs.of(A, 7)).toBeUndefined()
    expect(changes.at(-1)).toEqual(['default/a', undefined])
  })

  it('are not told of a server that is gone', async () => {
    backlogs.watch(A)
    const looking = backlogs.look()

    backlogs.forget(A)
    await looking

    expect(changes).toEqual([])
    expect([...backlogs.all()]).toEqual([])
  })
})
