/**
 * Every fenced block of the documents: commands are run, what they print is compared, manifests, scripts and messages are loaded, TypeScript is
 * type-checked against the package. What cannot be run says why.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseScript } from '../../actors/testing/model-script.ts'
import { parseDoorBody } from '../../bus/wire/message.ts'
import { parseManifests } from '../../manifests/load.ts'
import { type Block, blocks, indentedCode, languages, pages, read, root } from './blocks.ts'
import { foreignMistakes, isForeign } from './foreign-yaml.ts'
import { lineNotPrinted } from './printed.ts'
import { Desk } from './reader.ts'

const of = (language: (typeof languages)[number]) => blocks.filter((block) => block.language === language && !block.notRun)
/** The block before, whose output a `text` block shows. */
const commandBefore = (block: Block) => {
  const all = blocks.filter(({ page }) => page === block.page)
  const before = all[all.indexOf(block) - 1]
  return before?.language === 'sh' ? before : undefined
}
/** Places of blocks by what was done with them. */
const done = { run: new Set<string>(), parsed: new Set<string>() }

let desk: Desk
beforeAll(async () => {
  desk = await Desk.create()
}, 700_000)
afterAll(async () => {
  await desk?.[Symbol.asyncDispose]()
  const notRun = blocks.filter(({ notRun }) => notRun)
  console.log(`run ${done.run.size}, parsed ${done.parsed.size}, not run ${notRun.length}`)
  for (const { where, notRun: reason } of notRun) console.log(`  not run: ${where}: ${reason}`)
})

describe('the blocks of the documents', () => {
  it('are of known languages, and no code stands outside of them', () => {
    const unknown = blocks.filter(({ language }) => !(languages as readonly string[]).includes(language))

    expect(unknown.map(({ where }) => where)).toEqual([])
    expect(pages.flatMap(indentedCode).filter((line) => !MAIN_JOBS.test(line))).toEqual([])
  })

  describe.concurrent('can be followed from top to bottom', () => {
    for (const page of pages) {
      const own = blocks.filter((block) => block.page === page && !block.notRun)
      const commands = own.filter(({ language }) => language === 'sh')
      if (commands.length === 0) continue
      it(page, { timeout: 90_000 }, async ({ expect }) => {
        const printed = await desk.follow(page, own)

        for (const block of own.filter(({ language }) => language === 'text')) {
          const command = commandBefore(block)
          expect(command, `${block.where} shows the output of no block`).toBeDefined()
          const output = printed.get(command!.line) ?? ''
          expect(lineNotPrinted(block.text, output), `${block.where} shows what was not printed:\n${output}`).toBeUndefined()
          done.run.add(block.where)
        }
        for (const { where } of commands) done.run.add(where)
      })
    }
  })

  for (const { where, text } of of('yaml')) {
    it(`load the YAML at ${where}`, () => {
      if (/^rules:/m.test(text)) expect(parseScript(text, where).rules.length).toBeGreaterThan(0)
      else if (isForeign(text)) expect(foreignMistakes(text)).toEqual([])
      else {
        const system = manifestsOf(where, text)
        expect(system.agents.length + system.mcpServers.length + system.modelAPIs.length).toBeGreaterThan(0)
      }
      done.parsed.add(where)
    })
  }

  for (const { where, heading, text } of of('json')) {
    it(`read the message at ${where}`, () => {
      const schema = join(root, 'docs', 'messages', `${heading}.json`)
      if (existsSync(schema)) {
        const validate = new Ajv2020({ strictTypes: false }).compile(JSON.parse(readFileSync(schema, 'utf8')) as object)
        expect(validate(JSON.parse(text)) || validate.errors).toBe(true)
      } else expect(parseDoorBody(text)).toMatchObject({ input: expect.anything() })
      done.parsed.add(where)
    })
  }

  it('type-check against the package', { timeout: 60_000 }, async () => {
    for (const { where, file } of of('ts')) expect(file, `${where} does not begin with the name of its file`).toBeDefined()

    await desk.typeCheck(of('ts'))

    for (const { where } of of('ts')) done.parsed.add(where)
  })

  for (const { where, text } of of('python')) {
    it(`parse the Python at ${where}`, () => {
      execFileSync('python3', ['-c', 'import ast, sys; ast.parse(sys.stdin.read())'], { input: text })
      done.parsed.add(where)
    })
  }

  it('are all run, parsed, or say why not', () => {
    const left = blocks.filter(({ where, notRun }) => !notRun && !done.run.has(where) && !done.parsed.has(where))

    expect(left.map(({ where }) => where)).toEqual([])
  })
})

/** What does not load alone may lean on the team that `kaos init` makes. */
function manifestsOf(where: string, text: string) {
  try {
    return parseManifests([{ file: where, text }])
  } catch {
    return parseManifests([
      { file: 'team.yaml', text: read('docs/examples/team/team.yaml') },
      { file: where, text },
    ])
  }
}

/** The two commands of the README that begin with an installation of this checkout, one of which runs this test. */
const MAIN_JOBS = /^README\.md:\d+: npm ci && npm (run demo|test)\b/
