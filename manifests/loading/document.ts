/** YAML text as documents in which every field knows its line. */
import {
  type Alias,
  type Document,
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseAllDocuments,
} from 'yaml'

export interface Position {
  /** Both counted from 1. */
  readonly line: number
  readonly column: number
}

export type Path = readonly (string | number)[]

export interface SyntaxMistake extends Position {
  readonly message: string
}

export interface ManifestDocument {
  readonly file: string
  /** Plain values; undefined when the document cannot be read as a whole. */
  readonly value: unknown
  readonly mistakes: readonly SyntaxMistake[]
  /** Where the value at `path` begins, or the name of its field; where it does not exist, the nearest parent that does. */
  locate(path: Path, what: 'name' | 'value'): Position
}

/** More references than this within one document are an attack, not a manifest. */
const aliasesMax = 100

/** Empty documents are left out. */
export function readDocuments(file: string, text: string): ManifestDocument[] {
  const lineCounter = new LineCounter()
  const documents = parseAllDocuments(text, { lineCounter, prettyErrors: false, merge: true })
  const position = (offset: number): Position => {
    const { line, col } = lineCounter.linePos(offset)
    return { line: Math.max(line, 1), column: Math.max(col, 1) }
  }
  return [...documents]
    .filter((document) => document.errors.length > 0 || (document.contents !== null && !isEmptyScalar(document.contents)))
    .map((document) => {
      const mistakes = firstOfEachLine(document.errors.map((error) => ({ ...position(error.pos[0]), message: error.message })))
      const start = document.contents?.range?.[0] ?? document.range[0]
      let value: unknown
      try {
        value = document.toJS({ maxAliasCount: aliasesMax })
      } catch (error) {
        if (mistakes.length === 0) mistakes.push({ ...position(start), message: (error as Error).message })
      }
      return { file, value, mistakes, locate: (path, what) => position(offsetOf(document, path, what) ?? start) }
    })
}

/** One slip makes the parser stumble again and again over what follows it. */
function firstOfEachLine(mistakes: readonly SyntaxMistake[]): SyntaxMistake[] {
  return mistakes.filter(({ line }, index) => mistakes.findIndex((other) => other.line === line) === index)
}

function offsetOf(document: Document.Parsed, path: Path, what: 'name' | 'value'): number | undefined {
  let node: Node | undefined = document.contents ?? undefined
  let found = node?.range?.[0]
  for (const [depth, key] of path.entries()) {
    const step = stepInto(document, node, key)
    if (!step) return found
    node = step.value
    const wantsName = what === 'name' || depth < path.length - 1
    found = (wantsName ? step.name : undefined)?.range?.[0] ?? node?.range?.[0] ?? step.name?.range?.[0] ?? found
  }
  return found
}

function stepInto(
  document: Document.Parsed,
  parent: Node | undefined,
  key: string | number,
): { name?: Node | undefined; value?: Node | undefined } | undefined {
  const node = isAlias(parent) ? (parent as Alias).resolve(document) : parent
  if (isSeq(node)) {
    const item = node.items[Number(key)]
    return isNode(item) ? { value: item } : undefined
  }
  if (!isMap(node)) return undefined
  const pair = node.items.find((item) => keyOf(item) === String(key)) as Pair<unknown, unknown> | undefined
  if (!pair) return undefined
  return { name: isNode(pair.key) ? pair.key : undefined, value: isNode(pair.value) ? pair.value : undefined }
}

function keyOf(pair: Pair): string {
  return String(isScalar(pair.key) ? pair.key.value : pair.key)
}

function isEmptyScalar(node: Node): boolean {
  return isScalar(node) && node.value === null
}
