/** Loads manifests: YAML files and folders in, a system in which everything is checked and every default filled in, out. */
import type { Agent } from './kinds/agent.ts'
import type { McpServer } from './kinds/mcp-server.ts'
import type { ModelApi } from './kinds/model-api.ts'
import { warnOfUnused } from './loading/acted-on.ts'
import { type Declaration, type Kind, kinds, readDeclaration } from './loading/declaration.ts'
import { type ManifestDocument, readDocuments } from './loading/document.ts'
import { dotted, findMistakes, type Mistake } from './loading/explain.ts'
import { type ManifestText, readManifestFiles } from './loading/files.ts'
import { findReferenceMistakes } from './loading/references.ts'
import type { Source } from './metadata.ts'
import { ManifestError, type Problem } from './problem.ts'

export type { ManifestText } from './loading/files.ts'

/** All that was declared. Names are unique within kind and namespace; every reference leads somewhere. */
export interface System {
  readonly agents: readonly Agent[]
  readonly mcpServers: readonly McpServer[]
  readonly modelAPIs: readonly ModelApi[]
  /** Namespaces that something is declared in, in the order of their first use. */
  readonly namespaces: readonly string[]
  /** Sentences for people: fields without an effect, resources passed over, keys in plain text. */
  readonly warnings: readonly string[]
  /** Files that were read, as they are shown in messages. */
  readonly files: readonly string[]
}

/**
 * Reads files and folders (a folder's own *.yaml and *.yml, by name, as `kubectl apply -f` does; subfolders are left out, and YAML
 * in it that is no resource is passed over). A file may hold several documents. Resources of other kinds are passed over with a warning. Throws ManifestError with every mistake at once.
 */
export function loadManifests(paths: readonly string[]): System {
  const { texts, problems } = readManifestFiles(paths)
  return build(texts, problems)
}

/** The same for text that is already at hand. Reads no file. Throws ManifestError. */
export function parseManifests(texts: readonly ManifestText[]): System {
  return build(texts, [])
}

function build(texts: readonly ManifestText[], unreadable: readonly Problem[]): System {
  const problems: Problem[] = [...unreadable]
  const declarations: Declaration[] = []
  const skipped: string[] = []
  let complete = unreadable.length === 0

  for (const { file, text, found = false } of texts) {
    for (const document of readDocuments(file, text)) {
      if (document.mistakes.length > 0) {
        complete = false
        problems.push(...document.mistakes.map((mistake) => syntaxProblem(document, mistake)))
        continue
      }
      const reading = readDeclaration(document, found)
      if (reading.is === 'declaration') declarations.push(reading.declaration)
      if (reading.is === 'wrong') {
        complete = false
        problems.push(problemOf(document, reading.mistake))
      }
      if (reading.is === 'skipped') skipped.push(`${reading.what} (${document.file}:${document.locate([], 'value').line})`)
    }
  }

  for (const declaration of declarations) {
    const mistakes = [
      ...findMistakes(kinds[declaration.kind], declaration.value),
      ...findReferenceMistakes(declaration, { all: declarations, complete }),
    ]
    problems.push(...mistakes.map((mistake) => problemOf(declaration.document, mistake, declaration)))
  }
  if (problems.length === 0 && declarations.length === 0) problems.push(nothingDeclared(texts, skipped))
  if (problems.length > 0) throw new ManifestError(inReadingOrder(problems, texts))
  return {
    agents: collect('Agent', declarations),
    mcpServers: collect('MCPServer', declarations),
    modelAPIs: collect('ModelAPI', declarations),
    namespaces: [...new Set(declarations.map(({ namespace }) => namespace))],
    warnings: warnings(declarations, skipped),
    files: texts.map(({ file }) => file),
  }
}

interface Resources {
  Agent: Agent
  MCPServer: McpServer
  ModelAPI: ModelApi
}

function collect<K extends Kind>(kind: K, declarations: readonly Declaration[]): Resources[K][] {
  return declarations
    .filter((declaration) => declaration.kind === kind)
    .map(({ value, document }) => {
      const source: Source = { file: document.file, line: document.locate([], 'value').line }
      return { ...kinds[kind].parse(value), source } as unknown as Resources[K]
    })
}

function warnings(declarations: readonly Declaration[], skipped: readonly string[]): string[] {
  const found: string[] = []
  const unused = warnOfUnused(declarations)
  if (unused !== undefined) found.push(unused)
  if (skipped.length > 0) found.push(`passed over, not Agent, MCPServer or ModelAPI: ${skipped.join(', ')}`)
  const open = collect('ModelAPI', declarations).filter(({ spec }) => spec.proxyConfig?.apiKey?.value !== undefined)
  if (open.length > 0) {
    const names = open.map(({ metadata }) => metadata.name).join(', ')
    found.push(
      `a key stands in plain text, prefer apiKey.valueFrom.secretKeyRef: ModelAPI spec.proxyConfig.apiKey.value (${names})`,
    )
  }
  return found
}

function problemOf(document: ManifestDocument, mistake: Mistake, declaration?: Declaration): Problem {
  const { at, path, ...rest } = mistake
  return {
    file: document.file,
    ...document.locate(path, at),
    ...(declaration ? { resource: [declaration.kind, declaration.name].filter(Boolean).join(' ') } : {}),
    path: dotted(path),
    ...rest,
  }
}

function syntaxProblem(
  { file }: ManifestDocument,
  { line, column, message }: { line: number; column: number; message: string },
): Problem {
  return { file, line, column, path: '', given: 'text that is not YAML', allowed: 'YAML 1.2', message: `not YAML: ${message}` }
}

function nothingDeclared(texts: readonly ManifestText[], skipped: readonly string[]): Problem {
  const given = skipped.length > 0 ? skipped.join(', ') : 'nothing'
  const allowed = 'at least one Agent, MCPServer or ModelAPI'
  const file = texts.map((text) => text.file).join(', ') || 'no file'
  return { file, line: 0, column: 0, path: '', given, allowed, message: `given ${given}, allowed: ${allowed}` }
}

function inReadingOrder(problems: readonly Problem[], texts: readonly ManifestText[]): Problem[] {
  const order = new Map(texts.map(({ file }, index) => [file, index]))
  const rank = ({ file }: Problem) => order.get(file) ?? -1
  return problems.toSorted((a, b) => rank(a) - rank(b) || a.line - b.line || a.column - b.column)
}
