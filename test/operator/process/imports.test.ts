/** What stands in the memory of an operator for as long as it runs: each large package costs it megabytes. */
import { readFileSync } from 'node:fs'
import { join, normalize } from 'node:path'
import { expect, it } from 'vitest'

const root = join(import.meta.dirname, '..', '..', '..')
/** Statements that load: types go, and `import()` waits until it is needed. */
const LOADING = /^(?:import|export) (?!type )[^;]*? from '([^']+)'|^import '([^']+)'|^\} from '([^']+)'/gm
const FOR_OTHERS = ['xstate', '@kubernetes/client-node', '@modelcontextprotocol/sdk', 'hono', 'openai', 'eventsource-parser']

/** Files of this project and packages that are loaded with `file`. */
function loadedWith(file: string, known = new Set<string>()): ReadonlySet<string> {
  if (known.has(file)) return known
  known.add(file)
  const text = readFileSync(join(root, file), 'utf8').replaceAll(/^import type [^;]*? from '[^']+'$/gm, '')
  for (const [, one, two, three] of text.matchAll(LOADING)) {
    const name = (one ?? two ?? three)!
    if (name.startsWith('.')) loadedWith(normalize(join(file, '..', name)), known)
    else known.add(name)
  }
  return known
}

it('loads neither the machines of agents nor the ways to log in that it may not need', () => {
  const loaded = [...loadedWith('cli/main.ts'), ...loadedWith('cli/cluster/operator.ts')]

  expect(loaded).toEqual(expect.arrayContaining(['operator/process/operator.ts', 'bus/streams.ts', 'undici', 'zod']))
  expect(loaded.filter((name) => FOR_OTHERS.some((other) => name === other || name.startsWith(`${other}/`)))).toEqual([])
  expect(loaded.filter((name) => /^(actors|tools|replay|gateway)\//.test(name))).toEqual([])
})
