/** What tool servers announce, as the operator hears it of a real broker. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import { type NatsBus, openBus } from '../../../bus/open.ts'
import { createSharedStreams } from '../../../bus/streams.ts'
import { userParty } from '../../../bus/wire/subjects.ts'
import { BrokerLink } from '../../../operator/broker/link.ts'
import { ToolNames } from '../../../operator/broker/tool-names.ts'
import { silentLog } from '../../../telemetry/log.ts'
import { toolListOf } from '../../../tools/tool-list.ts'
import { startTestBroker, type TestBroker } from '../../support/broker.ts'

const NOTES = { namespace: 'prod', name: 'notes' }

let broker: TestBroker
let bus: NatsBus
let link: BrokerLink
let names: ToolNames
let changed: PromiseWithResolvers<string>

beforeEach(async () => {
  broker = await startTestBroker()
  bus = await openBus(broker.settings, { namespace: 'prod', as: userParty('test'), log: silentLog() })
  await createSharedStreams(bus.connection)
  link = new BrokerLink({ settings: broker.settings, log: silentLog() })
  changed = Promise.withResolvers()
  names = new ToolNames({ link, log: silentLog(), onChange: ({ namespace, name }) => changed.resolve(`${namespace}/${name}`) })
  await new Promise<void>((resolve) => {
    link.onConnect(resolve)
  })
  await link.connection.flush()
})
afterEach(async () => {
  names.close()
  await link.close()
  await bus.close()
  await broker.stop()
})

function announce(...tools: readonly string[]): Promise<void> {
  const described = tools.map((name) => ({
    name,
    description: '',
    inputSchema: { type: 'object' },
    readOnlyHint: true,
    idempotentHint: true,
  }))
  return bus.catalog.announceTools(toolListOf('notes', described))
}

it('knows nothing of a server that has announced nothing, and hears when it does', async () => {
  const before = await names.of(NOTES)

  await announce('write', 'read')
  const heardOf = await changed.promise

  expect(before).toBeUndefined()
  expect(heardOf).toBe('prod/notes')
  expect(await names.of(NOTES)).toEqual(['read', 'write'])
})

it('asks for what was announced before it listened', async () => {
  await announce('write')
  await changed.promise
  names.forget(NOTES)

  expect(await names.of(NOTES)).toEqual(['write'])
})

it('knows nothing while the broker is gone, and hears again of the one that comes back', async () => {
  await announce('write')
  await changed.promise
  await broker.kill()
  while (link.unreachableMs() === 0) await new Promise((resolve) => setImmediate(resolve))
  names.forget(NOTES)
  const meanwhile = await names.of(NOTES)

  await broker.restart()
  await new Promise<void>((resolve) => {
    link.onConnect(resolve)
  })

  expect(meanwhile).toBeUndefined()
  expect(await names.of(NOTES)).toEqual(['write'])
})
