/** Lists, reads and writes below a root, within limits. */
import { open, opendir, rename, rm } from 'node:fs/promises'
import { sha256 } from '../../../bus/wire/json.ts'
import { Refusal } from '../../own/mcp-server.ts'
import { FILES_LIMITS } from './limits.ts'
import { entryAt, NEW_FILE, type Root, refusal } from './root.ts'

export interface Entry {
  readonly name: string
  readonly kind: 'file' | 'folder'
  /** Of a file. */
  readonly bytes?: number
}

export interface Listing {
  /** Sorted by name. Links and devices are left out. */
  readonly entries: readonly Entry[]
  /** Whether there are more than `FILES_LIMITS.entriesMax`. */
  readonly isCut: boolean
}

const WORK_PREFIX = '.kaos-write-'

export async function listFolder(root: Root, path: string): Promise<Listing> {
  const names = root.names(path)
  const folder = await root.folder(names)
  try {
    const entries: Entry[] = []
    // Leaving the loop closes it.
    for await (const found of await opendir(folder.pathOf('.'))) {
      const { name } = found
      const isKnown = found.isFile() || found.isDirectory()
      if (!isKnown || name.startsWith(WORK_PREFIX)) continue
      if (entries.length === FILES_LIMITS.entriesMax) return { entries: entries.toSorted(byName), isCut: true }
      if (found.isDirectory()) entries.push({ name, kind: 'folder' })
      else {
        const entry = await entryAt(folder.pathOf(name))
        if (entry?.isFile()) entries.push({ name, kind: 'file', bytes: entry.size })
      }
    }
    return { entries: entries.toSorted(byName), isCut: false }
  } catch (error) {
    throw refusal(names, error)
  } finally {
    await folder.close()
  }
}

export async function readText(root: Root, path: string): Promise<string> {
  const handle = await root.file(root.names(path))
  try {
    // A file may grow while it is read: one byte more than is allowed tells.
    const buffer = Buffer.alloc(Math.min((await handle.stat()).size, FILES_LIMITS.fileBytesMax) + 1)
    let length = 0
    while (length < buffer.length) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length)
      if (bytesRead === 0) break
      length += bytesRead
    }
    if (length > FILES_LIMITS.fileBytesMax) throw tooLarge(path, (await handle.stat()).size)
    return decode(path, buffer.subarray(0, length))
  } finally {
    await handle.close()
  }
}

/** The file is there in full or as it was before, also after a crash; written again with the same key it is the same. */
export async function writeText(root: Root, path: string, content: string, key: string): Promise<{ readonly bytes: number }> {
  const bytes = Buffer.byteLength(content)
  if (bytes > FILES_LIMITS.fileBytesMax) throw tooLarge(path, bytes)
  const names = root.names(path)
  const name = names.at(-1)
  if (name === undefined) throw new Refusal('path "" is the root folder, not a file')
  if (name.startsWith(WORK_PREFIX))
    throw new Refusal(`path "${path}" is refused: names that begin with "${WORK_PREFIX}" are in use`)
  const folder = await root.folder(names.slice(0, -1), { isMade: true })
  const work = folder.pathOf(`${WORK_PREFIX}${sha256(key).slice(0, 16)}`)
  try {
    const before = await entryAt(folder.pathOf(name))
    if (before && !before.isFile()) throw new Refusal(`"${names.join('/')}" is a link, a folder or a device, not a file`)
    const handle = await open(work, NEW_FILE, (before?.mode ?? 0o666) & 0o777)
    try {
      await handle.writeFile(content)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(work, folder.pathOf(name))
    return { bytes }
  } catch (error) {
    await rm(work, { force: true }).catch(() => {})
    throw refusal(names, error)
  } finally {
    await folder.close()
  }
}

function decode(path: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw new Refusal(`"${path}" is not text in UTF-8`)
  }
}

function tooLarge(path: string, bytes: number): Refusal {
  return new Refusal(`"${path}" has ${bytes} bytes; at most ${FILES_LIMITS.fileBytesMax} are allowed`)
}

function byName(a: Entry, b: Entry): number {
  return a.name < b.name ? -1 : 1
}
