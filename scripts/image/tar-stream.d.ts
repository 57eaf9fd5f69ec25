/** What is used here of tar-stream, which comes without types. */
declare module 'tar-stream' {
  import type { Readable, Writable } from 'node:stream'

  export interface Header {
    readonly name: string
    readonly type?: 'file' | 'directory'
    readonly mode?: number
    readonly size?: number
    readonly mtime?: Date
    readonly uid?: number
    readonly gid?: number
  }

  /** A tar archive that is read as it is made, one entry after the other. */
  export interface Pack extends Readable {
    entry(header: Header, done: (error?: Error | null) => void): Writable
    entry(header: Header, content: string, done: (error?: Error | null) => void): Writable
    /** The content follows, of exactly the header's size. */
    entry(header: Header): Writable
    finalize(): void
  }

  export function pack(): Pack
}
