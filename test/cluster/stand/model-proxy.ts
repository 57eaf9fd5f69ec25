/** Stands for the image of a model proxy: the offline model on port 8000, with a script if there is one, and the health that LiteLLM serves. Its arguments are not read. */
import { request as ask, createServer } from 'node:http'
import { loadScript } from '../../../actors/testing/model-script.ts'
import { startModelServer } from '../../../actors/testing/model-server.ts'

const { MODEL_DELAY_MS = 0, MODEL_SCRIPT } = process.env
const script = MODEL_SCRIPT === undefined ? undefined : await loadScript(MODEL_SCRIPT)
const model = await startModelServer({ delayMs: Number(MODEL_DELAY_MS), script })
const server = createServer((request, response) => {
  if (request.url === '/health/liveliness') {
    response.end('"I\'m alive!"')
    return
  }
  const { method, headers, url = '' } = request
  const path = url.startsWith('/v1/') ? url : `/v1${url}`
  const forwarded = ask({ host: '127.0.0.1', port: model.port, method, headers, path }, (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers)
    answer.pipe(response)
  })
  forwarded.on('error', () => response.destroy())
  response.on('close', () => forwarded.destroy())
  request.pipe(forwarded)
})
server.listen(8_000)
process.on('SIGTERM', () => process.exit(0))
