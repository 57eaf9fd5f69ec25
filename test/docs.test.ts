/** The documents as a whole: every kaos command line is one that the command knows, and every link leads somewhere. Blocks: test/docs/. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { blocks, pages, read, root } from './docs/blocks.ts'

/** Command lines of kaos in all shell blocks and code spans. */
const commands = [
  ...blocks
    .filter(({ language }) => language === 'sh')
    .flatMap(({ where, text }) => text.split('\n').map((line) => ({ where, line }))),
  ...pages.flatMap((page) =>
    [...read(page).matchAll(/`((?:npx )?kaos [^`\n]+)`/g)].map((match) => ({ where: page, line: match[1]! })),
  ),
].filter(({ line }) => /\bkaos [a-z]/.test(line))

const GROUPS = ['task', 'trace', 'memory', 'model', 'tools']

const helpOf = new Map<string, ReturnType<typeof spawnSync>>()
function help(verbs: readonly string[]) {
  const known = helpOf.get(verbs.join(' '))
  const told = known ?? spawnSync(process.execPath, [join(root, 'cli', 'kaos.js'), ...verbs, '--help'], { encoding: 'utf8' })
  helpOf.set(verbs.join(' '), told)
  return told
}

describe('the documents', () => {
  it('name only commands and options that exist', () => {
    expect(commands.length).toBeGreaterThan(4)
    for (const { where, line } of commands) {
      const words = line
        .slice(line.search(/\bkaos [a-z]/))
        .replace(/\s+#.*$|\s+[|&;].*$/, '')
        .split(/\s+/)
        .slice(1)
      const verbs = words.filter((word, i) => i < 2 && /^[a-z]+$/.test(word)).slice(0, GROUPS.includes(words[0]!) ? 2 : 1)
      const { status, stdout } = help(verbs)
      expect(status, `${where}: ${line}`).toBe(0)
      expect(stdout, `${where}: ${line}`).toContain(`Usage: ${['kaos', ...verbs].join(' ')} `)
      for (const option of words.filter((word) => /^--?[a-z-]+$/.test(word)))
        expect(stdout, `${where}: ${line}`).toContain(option)
    }
  })

  it('link only to files and headings that exist', () => {
    const missing = pages.flatMap((page) =>
      [...read(page).matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)/g)]
        .filter(([, file, heading]) => {
          const target = file ? join(dirname(page), file) : page
          if (!existsSync(join(root, target))) return true
          return heading !== undefined && !headingsOf(target).includes(heading)
        })
        .map(([link]) => `${page}: ${link}`),
    )

    expect(missing).toEqual([])
  })
})

/** As GitHub makes anchors of headings. */
function headingsOf(page: string): readonly string[] {
  return [...read(page).matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )
}
