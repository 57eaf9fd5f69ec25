/**
 * One folder that nobody leaves. A path is walked from the root, a folder at a time, and no link is followed anywhere. On Linux each step
 * begins at the open folder before it (through /proc/self/fd), so that a folder that is replaced by a link meanwhile changes nothing. Elsewhere
 * the whole path is opened and then compared with where it really lies: enough against links that are there, but not against a program that
 * may write below the root and swaps a folder and a link all the time.
 */
import { constants } from 'node:fs'
import { access, type FileHandle, lstat, mkdir, open, realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Refusal } from '../../own/mcp-server.ts'
import { FILES_LIMITS } from './limits.ts'

const { O_CREAT, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants
const DESCRIPTORS = '/proc/self/fd'

/** An open folder below the root, or the root. */
export interface Folder {
  /** A path that leads to an entry of this folder itself, wherever the folder lies by now. */
  pathOf(name: string): string
  close(): Promise<void>
}

export class Root {
  private readonly path: string
  private readonly isByDescriptor: boolean

  private constructor(path: string, isByDescriptor: boolean) {
    this.path = path
    this.isByDescriptor = isByDescriptor
  }

  /** The root itself may be reached by links. `isByDescriptor` is found out; tests set it. */
  static async open(path: string, isByDescriptor?: boolean): Promise<Root> {
    const descriptors = await access(DESCRIPTORS).then(
      () => process.platform === 'linux',
      () => false,
    )
    return new Root(await realpath(path), isByDescriptor ?? descriptors)
  }

  /** Names on the way to an entry; empty for the root. Throws Refusal for a path that does not stay below the root. */
  names(path: string): string[] {
    const refuse = (why: string) => new Refusal(`path ${JSON.stringify(path.slice(0, 200))} is refused: ${why}`)
    if (path.length > FILES_LIMITS.pathLengthMax) throw refuse(`it is longer than ${FILES_LIMITS.pathLengthMax} characters`)
    if (path.startsWith('/') || /^[A-Za-z]:[\\/]/.test(path)) throw refuse('it is absolute; give it relative to the root folder')
    if (path.includes('\0') || path.includes('\\')) throw refuse('it has a character that paths here do not have')
    const names = path.split('/').filter((name) => name !== '' && name !== '.')
    if (names.includes('..')) throw refuse('".." would leave the folder')
    if (names.length > FILES_LIMITS.pathDepthMax) throw refuse(`it is nested deeper than ${FILES_LIMITS.pathDepthMax} folders`)
    return names
  }

  /** Opens a folder; `isMade` makes those that are not there. Throws Refusal. */
  async folder(names: readonly string[], { isMade = false } = {}): Promise<Folder> {
    let at = await this.openFolder(this.path, []).catch((error: unknown) => {
      throw (error as NodeJS.ErrnoException).code === 'ENOENT' ? new Refusal('the root folder is not there any more') : error
    })
    for (const [index, name] of names.entries()) {
      try {
        const path = at.pathOf(name)
        if (isMade) await mkdir(path).catch(ifNot('EEXIST'))
        const next = await this.openFolder(path, names.slice(0, index + 1))
        await at.close()
        at = next
      } catch (error) {
        await at.close()
        throw refusal(names.slice(0, index + 1), error)
      }
    }
    return at
  }

  /** Opens a regular file of a folder for reading. Throws Refusal. */
  async file(names: readonly string[]): Promise<FileHandle> {
    const name = names.at(-1)
    if (name === undefined) throw new Refusal('path "" is the root folder, not a file')
    const folder = await this.folder(names.slice(0, -1))
    try {
      // Without O_NONBLOCK the opening of a pipe waits until somebody writes.
      const handle = await open(folder.pathOf(name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
      return await this.confirmed(handle, names, async () => {
        if (!(await handle.stat()).isFile()) throw new Refusal(`"${names.join('/')}" is not a file`)
      })
    } catch (error) {
      throw refusal(names, error)
    } finally {
      await folder.close()
    }
  }

  private async openFolder(path: string, names: readonly string[]): Promise<Folder> {
    const handle = await open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    await this.confirmed(handle, names)
    const base = this.isByDescriptor ? `${DESCRIPTORS}/${handle.fd}` : join(this.path, ...names)
    return { pathOf: (name) => `${base}/${name}`, close: () => handle.close() }
  }

  /** Where steps go by path, what was opened is proven to be what lies there without links. Closes the handle if not. */
  private async confirmed(handle: FileHandle, names: readonly string[], check?: () => Promise<void>): Promise<FileHandle> {
    try {
      if (!this.isByDescriptor) {
        const path = join(this.path, ...names)
        const before = await realpath(path)
        const [there, opened] = [await stat(path), await handle.stat()]
        const isSame = there.dev === opened.dev && there.ino === opened.ino
        if (!isSame || before !== path || (await realpath(path)) !== path) throw linkRefusal(names)
      }
      await check?.()
      return handle
    } catch (error) {
      await handle.close()
      throw error
    }
  }
}

/** What lies at a path of a folder, a link as itself; undefined for nothing. */
export async function entryAt(path: string) {
  return lstat(path).catch(ifNot('ENOENT'))
}

/** What the system says of a path below the root, in words for the model; it never sees where the root lies. */
export function refusal(names: readonly string[], error: unknown): unknown {
  if (error instanceof Refusal) return error
  const path = names.join('/')
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ENOENT':
      return new Refusal(`there is no "${path}"`)
    case 'ELOOP':
      return linkRefusal(names)
    case 'ENOTDIR':
      return new Refusal(`"${path}" is a link or a file, not a folder; links are not followed`)
    case 'EISDIR':
      return new Refusal(`"${path}" is a folder, not a file`)
    case 'ENAMETOOLONG':
      return new Refusal(`a name in "${path.slice(0, 200)}" is too long`)
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new Refusal(`"${path}" may not be opened here: no permission`)
    case 'ENXIO':
      return new Refusal(`"${path}" is not a file`)
    default:
      return new Error(`could not use "${path}": ${(error as NodeJS.ErrnoException).code ?? 'it failed'}`, { cause: error })
  }
}

function linkRefusal(names: readonly string[]): Refusal {
  return new Refusal(`"${names.join('/')}" is a link or lies behind one; links are not followed`)
}

function ifNot(code: string): (error: unknown) => undefined {
  return (error) => {
    if ((error as NodeJS.ErrnoException).code !== code) throw error
    return undefined
  }
}

export const NEW_FILE = constants.O_WRONLY | O_CREAT | constants.O_TRUNC | O_NOFOLLOW | O_NONBLOCK
