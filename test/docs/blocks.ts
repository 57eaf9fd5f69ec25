/** What stands in the documents: their pages, fenced blocks and links. Reads, judges nothing. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export const root = join(import.meta.dirname, '..', '..')

/** All but the decisions: those say what was, and are never rewritten. */
export const pages: readonly string[] = [
  'README.md',
  'CONTRIBUTING.md',
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.md') && !file.startsWith('decisions') && !/node_modules|\.kaos/.test(file))
    .map((file) => join('docs', file))
    .sort(),
]

/** What a block may be written in. `text` is what the `sh` block before it prints. */
export const languages = ['sh', 'text', 'yaml', 'json', 'ts', 'python'] as const

export interface Block {
  readonly page: string
  /** Of the opening fence, from 1. */
  readonly line: number
  /** `PAGE:LINE` */
  readonly where: string
  /** Of the heading above it. */
  readonly heading: string
  readonly language: string
  readonly text: string
  /** Path in the reader's folder, if the block begins with a comment that names one. */
  readonly file: string | undefined
  /** Why it is not run: what a comment before the block says. */
  readonly notRun: string | undefined
}

const BLOCK = /(?:<!-- not run: ([^>]*?) -->\n)?^( *)```([^\n]*)\n([\s\S]*?)^ *```$/gm
/** The first line of a block that is a file: `# team.yaml` or `// tools/weather.ts`. */
const FILE = /^(?:#|\/\/) ([\w./-]+\.(?:ya?ml|ts|py))\n/

export const read = (page: string) => readFileSync(join(root, page), 'utf8')

export function blocksOf(page: string): readonly Block[] {
  const text = read(page)
  return [...text.matchAll(BLOCK)].map((match) => {
    const [all, notRun, indent, language, body] = match as unknown as [string, string?, string?, string?, string?]
    const fenceAt = match.index + all.indexOf('```')
    const line = text.slice(0, fenceAt).split('\n').length
    const heading = [...text.slice(0, match.index).matchAll(/^#+ (.*)$/gm)].at(-1)?.[1] ?? ''
    const content = body!.replaceAll(new RegExp(`^${indent}`, 'gm'), '')
    return {
      page,
      line,
      where: `${page}:${line}`,
      heading,
      language: language!,
      text: content,
      file: FILE.exec(content)?.[1],
      notRun,
    }
  })
}

export const blocks: readonly Block[] = pages.flatMap(blocksOf)

/** Lines of code that no fence surrounds, by their place: nothing would run them. */
export function indentedCode(page: string): readonly string[] {
  const lines = read(page)
    .replaceAll(BLOCK, (block) => block.replaceAll(/[^\n]/g, ''))
    .split('\n')
  return lines.flatMap((line, at) =>
    /^ {4}\S/.test(line) && lines[at - 1]?.trim() === '' ? [`${page}:${at + 1}: ${line.trim()}`] : [],
  )
}
