/** The same work without a bus: one async function that calls the model, two functions at once, and the model again. Nothing survives its process. */
import { createModelClient } from '../../../actors/effects/endpoint.ts'
import { type LoopOptions, runLoop } from '../closed-loop.ts'
import { answerQuestions } from '../process.ts'
import { REMOTE, textOf } from '../system.ts'

export type PlainQuestion = LoopOptions & { readonly modelMs: number }

const [url = ''] = process.argv.slice(2)
const client = createModelClient()
const run = Date.now().toString(36)
let counter = 0
const tool = {
  type: 'function',
  function: {
    name: 'echo',
    description: 'Returns the text that it is given.',
    parameters: {
      type: 'object',
      properties: { text: { type: 'string', description: 'The text to return' } },
      required: ['text'],
    },
  },
}

async function echo({ text }: { readonly text: string }): Promise<string> {
  return text
}

async function doTask(modelMs: number): Promise<void> {
  const key = `${run}-${(counter++).toString(36)}`
  const messages = [
    { role: 'system', content: `You are ${REMOTE}.\n\nLook at both sides at once, then say in one sentence what you found.` },
    { role: 'user', content: textOf(key, modelMs) },
  ]
  const first = await ask(messages, `${key}_0-0`)
  const results = await Promise.all(first.toolCalls.map((call) => echo(JSON.parse(call.arguments) as { text: string })))
  const calls = first.toolCalls.map(({ id, name, arguments: text }) => ({
    id,
    type: 'function',
    function: { name, arguments: text },
  }))
  const answers = first.toolCalls.map(({ id }, i) => ({ role: 'tool', tool_call_id: id, content: results[i]! }))
  const last = await ask([...messages, { role: 'assistant', content: '', tool_calls: calls }, ...answers], `${key}_3-0`)
  if (results.length !== 2 || last.text === '') throw new Error(`the model answered ${JSON.stringify(last)}`)
}

function ask(messages: readonly object[], idempotencyKey: string) {
  return client.complete({
    url,
    body: { model: 'scripted', messages: messages as never, tools: [tool], stream: true },
    idempotencyKey,
    traceparent: '',
    timeoutMs: 60_000,
    signal: new AbortController().signal,
  })
}

answerQuestions<PlainQuestion>(({ modelMs, ...options }) => runLoop(options, () => doTask(modelMs)))
process.on('SIGTERM', () => process.exit(0))
console.log('ready')
