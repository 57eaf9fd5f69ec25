/** A mistake in a manifest, and the error that carries all of them. */

export interface Problem {
  /** As it was given to the loader. */
  readonly file: string
  /** Counted from 1; 0 when the file could not be read at all. */
  readonly line: number
  readonly column: number
  /** The resource it stands in, such as "Agent coordinator"; absent when that cannot be told. */
  readonly resource?: string
  /** Field path, such as "spec.config.memory.type" or "spec.mcpServers[1]"; empty for the document as a whole. */
  readonly path: string
  /** What stands there, shortened, never a key or another value that may be secret. */
  readonly given: string
  /** What may stand there. */
  readonly allowed: string
  /** What was probably meant. */
  readonly nearest?: string
  /** The mistake in one line, without its place. */
  readonly message: string
}

/** Everything that is wrong with the manifests, at once. Nothing was loaded. */
export class ManifestError extends Error {
  readonly code = 'manifest_invalid'
  readonly problems: readonly Problem[]

  constructor(problems: readonly Problem[]) {
    super(describe(problems))
    this.name = 'ManifestError'
    this.problems = problems
  }
}

function describe(problems: readonly Problem[]): string {
  const count = problems.length === 1 ? '1 mistake' : `${problems.length} mistakes`
  return [`${count} in the manifests`, ...problems.map(describeOne)].join('\n')
}

function describeOne({ file, line, column, resource, path, message }: Problem): string {
  const place = line === 0 ? file : `${file}:${line}:${column}`
  const field = [resource, path].filter(Boolean).join(' ')
  return `${[place, field].filter(Boolean).join('  ')}\n    ${message}`
}
