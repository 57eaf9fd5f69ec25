import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ParamsError, parseStdioParams, parseUrlParams, splitCommandLine } from '../../manifests/tool-runtime.ts'

test.each([
  ['npx -y @scope/server', ['npx', '-y', '@scope/server']],
  ['  node\tserver.js \n --port 1 ', ['node', 'server.js', '--port', '1']],
  [`node 'my server.js' "two words"`, ['node', 'my server.js', 'two words']],
  [`a'b c'd "e"f`, ['ab cd', 'ef']],
  [`node '' ""`, ['node', '', '']],
  [String.raw`node my\ server.js "say \"hi\" \n" '\n'`, ['node', 'my server.js', String.raw`say "hi" \n`, String.raw`\n`]],
  [`sh -c 'echo $HOME | wc; ls > x & done'`, ['sh', '-c', 'echo $HOME | wc; ls > x & done']],
  ['', []],
])('splits %j as a shell does', (line, words) => {
  expect(splitCommandLine(line)).toEqual(words)
})

test.each(['a | b', 'a && b', 'a; b', 'a > b', 'a < b', 'echo $HOME', 'echo "$HOME"', 'echo `date`', `echo "it's`, "echo 'x"])(
  'refuses %j, which only a shell could read or nobody',
  (line) => {
    expect(() => splitCommandLine(line)).toThrow(ParamsError)
  },
)

test('gives back any words that were put in single quotes', () => {
  const quoted = (word: string) => `'${word}'`
  const word = fc.string({ unit: 'binary' }).filter((text) => !text.includes("'"))

  fc.assert(
    fc.property(fc.array(word), (words) => {
      expect(splitCommandLine(words.map(quoted).join(' '))).toEqual(words)
    }),
  )
})

test.each([
  ['node server.js', { command: 'node', args: ['server.js'], env: {}, passEnv: [] }],
  ['{"command": "node", "args": ["a b"]}', { command: 'node', args: ['a b'], env: {}, passEnv: [] }],
  [
    'command: node\nargs: [server.js]\nenv: { MODE: test }\npassEnv: [TOKEN]\n',
    { command: 'node', args: ['server.js'], env: { MODE: 'test' }, passEnv: ['TOKEN'] },
  ],
])('reads stdio params %j', (params, read) => {
  expect(parseStdioParams(params)).toEqual(read)
})

test.each([
  ['https://tools.example/mcp', { url: 'https://tools.example/mcp', headersFromEnv: {} }],
  [
    'url: http://localhost:3000/mcp\nheadersFromEnv: { Authorization: TOOLS_AUTH }',
    { url: 'http://localhost:3000/mcp', headersFromEnv: { Authorization: 'TOOLS_AUTH' } },
  ],
])('reads url params %j', (params, read) => {
  expect(parseUrlParams(params)).toEqual(read)
})

test.each([
  ['command: [node', 'YAML that can be read ('],
  ['command: node\nenv: { "not a name": x }', 'YAML with command, args, env, passEnv (env.not a name'],
  ['args: [x]', 'YAML with command, args, env, passEnv (command: '],
])('says what is wrong with %j', (params, message) => {
  expect(() => parseStdioParams(params)).toThrow(message)
})

test.each(['', 'ftp://x', 'tools.example/mcp', 'url: nowhere', '{"url": "http://x/mcp", "headers": {}}'])(
  'refuses %j as url params',
  (params) => {
    expect(() => parseUrlParams(params)).toThrow(ParamsError)
  },
)
