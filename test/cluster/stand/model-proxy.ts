/** Stands for the image of a model proxy: the offline model on port 8000, and the health that LiteLLM serves. Its arguments are not read. */
import { request as ask, createServer } from 'node:http'
import { startModelServer } from '../../../actors/testing/model-server.ts'

const delayMs = Number(process.env.MODEL_DELAY_MS ?? 0)
const model = await startModelServer({ delayMs })
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
