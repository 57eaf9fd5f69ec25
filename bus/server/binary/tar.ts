/** Reads one file out of a tar archive in memory: enough for a release archive, and no external `tar` and `gzip` are needed. */

const BLOCK = 512

/** The bytes of the first regular file whose path ends in `/<name>` or is `<name>`; undefined if there is none. */
export function readTarFile(tar: Uint8Array, name: string): Uint8Array | undefined {
  for (let offset = 0; offset + BLOCK <= tar.length; ) {
    const header = tar.subarray(offset, offset + BLOCK)
    if (header[0] === 0) return undefined // the archive ends with empty blocks
    const path = textAt(header, 0, 100)
    const size = Number.parseInt(textAt(header, 124, 12), 8)
    if (!Number.isSafeInteger(size)) throw new Error(`the archive is damaged at byte ${offset}`)
    const start = offset + BLOCK
    const isRegular = header[156] === 0x30 || header[156] === 0
    if (isRegular && (path === name || path.endsWith(`/${name}`))) {
      if (start + size > tar.length) throw new Error(`the archive ends inside "${path}"`)
      return tar.subarray(start, start + size)
    }
    offset = start + Math.ceil(size / BLOCK) * BLOCK
  }
  return undefined
}

function textAt(header: Uint8Array, start: number, length: number): string {
  const field = header.subarray(start, start + length)
  const end = field.indexOf(0)
  return new TextDecoder().decode(end === -1 ? field : field.subarray(0, end)).trim()
}
