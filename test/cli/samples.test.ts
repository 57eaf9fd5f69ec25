/** Every sample runs as it is, with the offline model. */
import { basename, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openBus } from '../../bus/open.ts'
import { userParty } from '../../bus/wire/subjects.ts'
import { loadManifests } from '../../manifests/load.ts'
import { silentLog } from '../../telemetry/log.ts'
import { Folder } from '../support/cli.ts'
import { replayAll } from '../support/replay-all.ts'

const samples = join(import.meta.dirname, '..', '..', 'manifests', 'samples')

const cases = [
  { file: 'simple.yaml', task: 'echo good morning', actors: 1, levels: 1 },
  { file: 'hierarchy.yaml', task: 'Research the market for city bikes and work out 1200 * 0.35', actors: 6, levels: 3 },
  { file: 'day-out.yaml', task: 'Plan my Saturday in Lisbon', actors: 2, levels: 2 },
  { file: 'newsroom.yaml', task: 'An article about city bikes', actors: 3, levels: 3 },
] as const

describe('the samples', () => {
  for (const { file, task, actors, levels } of cases) {
    it(`${file} answers, in one trace that replays identically`, async () => {
      const folder = await Folder.create()
      const path = join(samples, file)
      const system = loadManifests([path])
      const [first] = system.agents
      const up = await folder.start(['up', '-f', path, '--port', '0'], 'Ctrl-C ends it')
      const { code, stdout } = await folder.kaos(['task', 'send', first!.metadata.name, task, '--wait', '--json'])
      const tree = JSON.parse((await folder.kaos(['trace', 'show', 'last', '--json'])).stdout)

      expect(code, `${basename(path)}: ${stdout}`).toBe(0)
      expect(JSON.parse(stdout).output).toContain('offline model')
      expect(tree.actors).toBe(actors)
      expect(depthOf(tree.roots[0])).toBe(levels)
      const url = /NATS_URL=(\S+)/.exec(up.output)![1]!
      const settings = { servers: [url], source: 'NATS_URL', identity: { kind: 'none' } } as const
      const bus = await openBus(settings, { namespace: system.namespaces[0]!, as: userParty('test'), log: silentLog() })
      expect((await replayAll(bus, system)).wrong).toEqual([])
      await bus.close()
      await folder.remove()
    })
  }
})

interface Node {
  readonly effects: readonly { readonly child?: Node }[]
}

function depthOf(node: Node): number {
  return 1 + Math.max(0, ...node.effects.map(({ child }) => (child ? depthOf(child) : 0)))
}
