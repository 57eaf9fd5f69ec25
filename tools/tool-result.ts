/** What goes back to the model of a tool's answer. Pure. */
import { KaosError } from '../bus/wire/errors.ts'
import { isObject, type Json } from '../bus/wire/json.ts'
import { MCP_LIMITS } from './limits.ts'

export interface ToolResult {
  readonly value: Json
  /** The tool ran and says that it failed; `value` says why and is fed back to the model. */
  readonly isError: boolean
}

/**
 * The structured content, else the text, else the content blocks. Null is a value like any other, and what a tool that answers nothing
 * returns. The bytes of images, audio and other binary content are left out: a model cannot read them in a tool's answer, and they would
 * stand in the journal. Throws `payload_too_large`.
 */
export function readResult(tool: string, raw: { readonly [key: string]: unknown }): ToolResult {
  const isError = raw.isError === true
  const blocks = Array.isArray(raw.content) ? raw.content.filter(isObject) : []
  const isText = blocks.length > 0 && blocks.every((block) => block.type === 'text')
  const structured = raw.structuredContent as Json | undefined
  const value = structured !== undefined && !(isError && isText) ? structured : readContent(blocks, isText)
  const bytes = typeof value === 'string' ? Buffer.byteLength(value) : Buffer.byteLength(JSON.stringify(value))
  if (bytes > MCP_LIMITS.resultBytesMax) {
    throw new KaosError(
      'payload_too_large',
      `tool "${tool}" answered ${bytes} bytes; at most ${MCP_LIMITS.resultBytesMax} are allowed`,
    )
  }
  return { value, isError }
}

function readContent(blocks: readonly { [key: string]: Json }[], isText: boolean): Json {
  if (blocks.length === 0) return null
  return isText ? blocks.map((block) => String(block.text ?? '')).join('\n') : blocks.map(summarise)
}

function summarise(block: { [key: string]: Json }): Json {
  const { _meta, annotations: _annotations, ...rest } = block
  if (isObject(rest.resource)) {
    const { _meta: _resourceMeta, ...resource } = rest.resource
    return { ...rest, resource: withoutBytes(resource, 'blob') }
  }
  return rest.type === 'image' || rest.type === 'audio' ? withoutBytes(rest, 'data') : rest
}

/** Base64 text becomes the number of bytes it stands for. */
function withoutBytes(block: { [key: string]: Json }, field: string): { [key: string]: Json } {
  const { [field]: data, ...rest } = block
  return typeof data === 'string' ? { ...rest, bytes: Buffer.byteLength(data, 'base64') } : block
}
