/** Files as Node itself loads them, and not as a test runner does: all in one process of its own. */
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const root = join(import.meta.dirname, '..', '..', '..')
const MACHINE = `
import { local } from 'kaos-actors'
import { setup } from 'xstate'
export default setup({ actors: { run: local(async () => 1) } }).createMachine({ invoke: { src: 'run' } })
`
const taken = ['a.ts', 'a.mts', 'a.js', 'a.mjs', 'with space/ä — 日本.ts', "it's #1 %41?.mjs"]
const refused: readonly (readonly [what: string, file: string, text: string | undefined, message: RegExp])[] = [
  ['a syntax error', 'syntax.ts', '\n\nexport default {{{', /Unexpected token.* at line 3$/],
  ['a syntax error where no package says what its files are', 'untyped/syntax.ts', 'export default {{{', /token.* at line 1$/],
  ['a throw at the top', 'throws.ts', 'throw new Error("no database")', /: no database$/],
  ['a throw of nothing', 'throws-nothing.ts', 'throw undefined', /: undefined$/],
  ['a throw of what has no text', 'throws-null.ts', 'throw Object.create(null)', /: \{\}$/],
  ['a package that is not there', 'missing.ts', 'import x from "not-there"; export default x', /Cannot find package 'not-there'/],
  ['a file without its ending', 'ending.ts', 'import x from "./good"; export default x', /Cannot find module .*good' imported/],
  ['an enum', 'enum.ts', 'enum Color { Red }\nexport default 1', /enum is not supported.* at line 1: .* write a union of texts/],
  [
    'an enum of a file that it imports',
    'enum-further.ts',
    'import { Color } from "./enums.ts"; export default Color',
    /enum is not supported.* of ".*enums\.ts" at line 2: /,
  ],
  [
    'a parameter property',
    'property.ts',
    'class A { constructor(readonly a: number) {} }\nexport default A',
    /parameter property is not supported.*fields for parameter properties/,
  ],
  [
    'a type imported as if it were a value',
    'type.ts',
    'import { Order } from "./types.ts"\nexport default {} as Order & typeof Order',
    /does not provide an export named 'Order'.*"import type"/,
  ],
  [
    'no default export',
    'named.ts',
    'export const machine = 1',
    /must be its default export, and it exports machine but no default/,
  ],
  ['nothing', 'empty.ts', '', /it exports nothing$/],
  ['a number', 'number.ts', 'export default 42', /is no XState machine; make it with/],
  [
    'a promise',
    'promise.ts',
    'import m from "./good.ts"\nexport default Promise.resolve(m)',
    /is no XState machine but a promise/,
  ],
  ['an ending that Node does not run', 'machine.yaml', 'a: 1', /its name ends neither in \.ts nor in \.js$/],
  [
    'an effect that cannot be',
    'effect.ts',
    'import { local } from "kaos-actors"\nexport default local(() => 1, { timeoutSeconds: -1 })',
    /timeoutSeconds.*it is -1/,
  ],
  ['a wait at the top that never ends', 'waits.ts', 'await new Promise(() => {})\nexport default 1', /did not end within 50 ms/],
  ['a file that is not there', 'gone.ts', undefined, /there is no such file$/],
  ['a folder', 'folder.ts', undefined, /EISDIR/],
]

const LOADER = `
import { loadMachine } from '${root}/actors/own/load.ts'
const results = {}
for (const file of process.argv.slice(1)) {
  const timeoutMs = file.includes('waits') ? 50 : undefined
  results[file] = await loadMachine('mine', file, { timeoutMs }).then(
    ({ machine }) => ({ id: machine.id }),
    ({ code, message }) => ({ code, message }),
  )
}
console.log(JSON.stringify(results))
process.exit(0)
`

let folder: string
let results: Readonly<Record<string, { readonly id?: string; readonly code?: string; readonly message?: string }>>
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kaos-load-'))
  await mkdir(join(folder, 'node_modules'))
  for (const name of ['kaos-actors', 'xstate'])
    await symlink(join(root, 'node_modules', name), join(folder, 'node_modules', name))
  const put = async (name: string, text: string) => {
    await mkdir(dirname(join(folder, name)), { recursive: true })
    await writeFile(join(folder, name), text)
  }
  await put('package.json', '{ "type": "module" }')
  await put('untyped/package.json', '{}')
  await put('good.ts', MACHINE)
  await put('enums.ts', '\nexport enum Color { Red }')
  await put('types.ts', 'export interface Order { readonly id: string }')
  for (const name of taken) await put(name, MACHINE)
  for (const [, name, text] of refused) if (text !== undefined) await put(name, text)
  await mkdir(join(folder, 'folder.ts'))

  const files = [...taken, ...refused.map(([, name]) => name)].map((name) => join(folder, name))
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', LOADER, ...files])
  results = JSON.parse(stdout)
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const resultOf = (name: string) => results[join(folder, name)]

describe('loading the file of a machine', () => {
  for (const name of taken) {
    it(`takes "${name}"`, () => {
      expect(resultOf(name)).toEqual({ id: expect.stringMatching(/^mine@[0-9a-f]{16}$/) })
    })
  }

  for (const [what, name, , message] of refused) {
    it(`says what is wrong with ${what}`, () => {
      expect(resultOf(name)).toEqual({
        code: expect.stringMatching(/^machine_(file|contract)$/),
        message: expect.stringMatching(message),
      })
    })
  }
})
