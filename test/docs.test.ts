/** The documents: every YAML block loads, every JSON block parses, and every kaos command line is one that the command knows. */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseDoorBody } from '../bus/wire/message.ts'
import { parseManifests } from '../manifests/load.ts'

const root = join(import.meta.dirname, '..')
const pages = [
  'README.md',
  'CONTRIBUTING.md',
  ...readdirSync(join(root, 'docs'))
    .filter((file) => file.endsWith('.md'))
    .map((file) => `docs/${file}`),
]

interface Block {
  readonly where: string
  readonly language: string
  readonly text: string
  readonly notRun: string | undefined
}

const blocks = pages.flatMap((page): Block[] => {
  const text = readFileSync(join(root, page), 'utf8')
  return [...text.matchAll(/(?:<!-- not run: ([^>]*) -->\n)?```(\w+)\n([\s\S]*?)```/g)].map((match) => ({
    where: `${page}:${text.slice(0, match.index).split('\n').length}`,
    notRun: match[1],
    language: match[2]!,
    text: match[3]!,
  }))
})

/** Command lines of kaos in all shell blocks and code spans. */
const commands = [
  ...blocks
    .filter(({ language }) => language === 'sh')
    .flatMap(({ where, text }) => text.split('\n').map((line) => ({ where, line }))),
  ...pages.flatMap((page) => {
    const spans = readFileSync(join(root, page), 'utf8').matchAll(/`((?:npx )?kaos [^`\n]+)`/g)
    return [...spans].map((match) => ({ where: page, line: match[1]! }))
  }),
].filter(({ line }) => /\bkaos [a-z]/.test(line))

const helpOf = new Map<string, ReturnType<typeof spawnSync>>()
function help(verbs: readonly string[]) {
  const known = helpOf.get(verbs.join(' '))
  const told = known ?? spawnSync(process.execPath, [join(root, 'cli', 'kaos.js'), ...verbs, '--help'], { encoding: 'utf8' })
  helpOf.set(verbs.join(' '), told)
  return told
}

describe('the documents', () => {
  it('have blocks of known languages only', () => {
    expect(blocks.length).toBeGreaterThan(5)
    expect(blocks.filter(({ language }) => !['yaml', 'json', 'sh'].includes(language)).map(({ where }) => where)).toEqual([])
  })

  for (const { where, text } of blocks.filter(({ language }) => language === 'yaml')) {
    it(`load the manifests at ${where}`, () => {
      const system = parseManifests([{ file: where, text }])

      expect(system.agents.length + system.mcpServers.length + system.modelAPIs.length).toBeGreaterThan(0)
    })
  }

  for (const { where, text } of blocks.filter(({ language }) => language === 'json')) {
    it(`parse the task at ${where}`, () => {
      expect(parseDoorBody(text)).toMatchObject({ input: expect.anything() })
    })
  }

  it('name only commands and options that exist', () => {
    expect(commands.length).toBeGreaterThan(4)
    for (const { where, line } of commands) {
      const words = line
        .slice(line.search(/\bkaos /))
        .replace(/\s+#.*$/, '')
        .split(/\s+/)
        .slice(1)
      const verbs = words
        .filter((word, i) => i < 2 && /^[a-z]+$/.test(word))
        .slice(0, ['task', 'trace', 'model'].includes(words[0]!) ? 2 : 1)
      const { status, stdout } = help(verbs)
      expect(status, `${where}: ${line}`).toBe(0)
      expect(stdout, `${where}: ${line}`).toContain(`Usage: ${['kaos', ...verbs].join(' ')} `)
      for (const option of words.filter((word) => /^--?[a-z-]+$/.test(word)))
        expect(stdout, `${where}: ${line}`).toContain(option)
    }
  })

  it('link only to files that exist', () => {
    const missing = pages.flatMap((page) => {
      const text = readFileSync(join(root, page), 'utf8')
      const links = [...text.matchAll(/\]\((?!https?:)([^)#]+)\)/g)].map((match) => match[1]!)
      return links.filter((link) => !existsSync(join(root, dirname(page), link))).map((link) => `${page}: ${link}`)
    })

    expect(missing).toEqual([])
  })
})
