import { expect, it } from 'vitest'
import { announceAgent } from '../../actors/agent/announce.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import { silentLog } from '../../telemetry/log.ts'

const card = { v: 1, kind: 'agent', name: 'clerk', description: '' } as const

it('announces an agent again until the catalog takes it', async () => {
  const { promise: taken, resolve } = Promise.withResolvers<number>()
  let tries = 0
  const catalog = {
    async announceAgent() {
      if (++tries < 3) throw new KaosError('stream_missing', 'no stream took it')
      resolve(tries)
    },
  }

  const announcing = announceAgent({ card, catalog, log: silentLog(), retryMs: 1 })

  expect(await taken).toBe(3)
  announcing.stop()
})
