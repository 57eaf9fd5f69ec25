/** A receiver that is away, silent, slow or unwilling, and a whole system that must not notice. */
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Folder } from '../support/cli.ts'
import { grpcStatus, type OtlpReceiver, startOtlpReceiver } from '../support/otlp-receiver.ts'

const DAY_OUT = join(import.meta.dirname, '..', '..', 'manifests', 'samples', 'day-out.yaml')

let folder: Folder
let backend: OtlpReceiver
beforeEach(async () => {
  folder = await Folder.create()
  backend = await startOtlpReceiver()
})
afterEach(async () => {
  backend.resume()
  await folder.remove()
  await backend.close()
})

/** What a task comes to, how the process that hosts it ends, and what it logs of losses. */
async function outcome(env: Record<string, string>) {
  const up = await folder.start(['up', '-f', DAY_OUT, '--offline', '--port', '0'], 'kaos is up', env)
  const sent = await folder.kaos(['task', 'send', 'concierge', 'Plan my Saturday in Lisbon', '--wait', '--json'])
  const ended = new Promise<number | null>((resolve) => up.child.once('close', resolve))
  up.child.kill('SIGTERM')
  const exitCode = await ended
  const { state, output } = JSON.parse(sent.stdout) as { readonly state: string; readonly output: unknown }
  return { state, output, exitCode, lost: up.output.match(/telemetry was dropped/g)?.length ?? 0 }
}

describe('a task ends as it would without telemetry, and so does the process', () => {
  let without: Awaited<ReturnType<typeof outcome>>
  beforeAll(async () => {
    folder = await Folder.create()
    without = await outcome({})
    await folder.remove()
  })

  const outages = {
    'is away': () => backend.close(),
    'never answers': () => backend.hang(),
    'refuses everything': () => {
      for (const signal of ['traces', 'metrics', 'logs'] as const) backend.refuse(signal, grpcStatus.PERMISSION_DENIED)
    },
  }
  for (const [what, begin] of Object.entries(outages)) {
    it(`when the receiver ${what}; the loss is logged`, async () => {
      await begin()

      const result = await outcome({ OTEL_EXPORTER_OTLP_ENDPOINT: backend.url })

      expect(result).toMatchObject({ state: 'completed', exitCode: 0 })
      expect(result).toEqual({ ...without, lost: expect.any(Number) })
      expect(result.lost).toBeGreaterThan(0)
    })
  }

  it('when the receiver is slow; nothing is lost', async () => {
    backend.delay(200)

    const result = await outcome({ OTEL_EXPORTER_OTLP_ENDPOINT: backend.url })

    expect(result).toEqual(without)
    expect(result.lost).toBe(0)
    expect(backend.spans().length).toBeGreaterThan(0)
  })
})
