/** Finds and reads manifest files: those named, and in a folder named its *.yaml and *.yml. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import type { Problem } from '../problem.ts'
import { nearestTo } from './nearest.ts'

export interface ManifestText {
  /** As it is shown in messages. */
  readonly file: string
  readonly text: string
  /** Found in a folder rather than named: it may turn out to be no manifest. */
  readonly found?: boolean
}

/** A cluster keeps at most 1.5 MiB per resource; a file may hold several. */
export const manifestFileBytesMax = 8 * 1024 * 1024

/** In the order given, a folder's files in the order of their names, subfolders left out; a file that is named twice is read once. */
export function readManifestFiles(paths: readonly string[]): { readonly texts: ManifestText[]; readonly problems: Problem[] } {
  const texts: ManifestText[] = []
  const problems: Problem[] = []
  const seen = new Set<string>()
  for (const path of paths) {
    try {
      for (const { file, found } of filesAt(path)) {
        if (seen.has(resolve(file))) continue
        seen.add(resolve(file))
        texts.push({ file, found, text: readText(file) })
      }
    } catch (error) {
      problems.push(unreadable(path, error))
    }
  }
  return { texts, problems }
}

function filesAt(path: string): { file: string; found: boolean }[] {
  if (!statSync(path).isDirectory()) return [{ file: path, found: false }]
  const files = readdirSync(path, { withFileTypes: true })
    .filter((entry) => /\.ya?ml$/.test(entry.name) && !entry.isDirectory())
    .map((entry) => entry.name)
    .sort()
  if (files.length === 0) throw new Error('the folder holds no *.yaml or *.yml')
  return files.map((name) => ({ file: join(path, name), found: true }))
}

function readText(file: string): string {
  if (statSync(file).size > manifestFileBytesMax) throw new Error(`the file is larger than ${manifestFileBytesMax} bytes`)
  return readFileSync(file, 'utf8')
}

function unreadable(path: string, error: unknown): Problem {
  const missing = (error as NodeJS.ErrnoException).code === 'ENOENT'
  const nearest = missing ? nearestFile(path) : undefined
  const reason = missing ? 'no such file or folder' : (error as Error).message
  return {
    file: path,
    line: 0,
    column: 0,
    path: '',
    given: JSON.stringify(path),
    allowed: 'a YAML file, or a folder with *.yaml or *.yml files',
    ...(nearest === undefined ? {} : { nearest }),
    message: reason + (nearest === undefined ? '' : `; did you mean ${JSON.stringify(nearest)}?`),
  }
}

function nearestFile(path: string): string | undefined {
  try {
    const name = nearestTo(basename(path), readdirSync(dirname(path)))
    return name === undefined ? undefined : join(dirname(path), name)
  } catch {
    return undefined // its folder does not exist either
  }
}
