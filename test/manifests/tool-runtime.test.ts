import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  checkParams,
  ParamsError,
  parseFilesParams,
  parseHttpFetchParams,
  parseStdioParams,
  parseTypescriptParams,
  parseUrlParams,
  splitCommandLine,
} from '../../manifests/kinds/tool-runtime.ts'

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

test.each([
  ['./tools/weather.ts', { path: './tools/weather.ts' }],
  ['  my tools/a.mjs ', { path: 'my tools/a.mjs' }],
  ['path: tools/weather.js', { path: 'tools/weather.js' }],
  ['{"path": "weather.ts"}', { path: 'weather.ts' }],
])('reads typescript params %j', (params, read) => {
  expect(parseTypescriptParams(params)).toEqual(read)
})

test.each([
  ['./notes', { root: './notes', writable: false }],
  ['my notes', { root: 'my notes', writable: false }],
  ['root: notes', { root: 'notes', writable: false }],
  ['{ root: /srv/notes, writable: true }', { root: '/srv/notes', writable: true }],
])('reads files params %j', (params, read) => {
  expect(parseFilesParams(params)).toEqual(read)
})

test.each([
  ['hosts: [example.org]', { hosts: ['example.org'], allowPrivate: false }],
  [
    'hosts:\n  - "*.Example.ORG"\n  - localhost:8080\n  - example.org:80\n  - "[::1]:3000"\n  - bücher.example\n  - 0x7f.1\nallowPrivate: true',
    {
      hosts: ['*.example.org', 'localhost:8080', 'example.org', '[::1]:3000', 'xn--bcher-kva.example', '127.0.0.1'],
      allowPrivate: true,
    },
  ],
])('reads http-fetch params %j', (params, read) => {
  expect(parseHttpFetchParams(params)).toEqual(read)
})

test.each([
  ['typescript', undefined, 'the path of a .ts or .js file that exports tools, such as "./tools/weather.ts"'],
  ['typescript', 'weather', 'the path of a .ts or .js file'],
  ['typescript', 'path: weather.py', 'the path of a .ts or .js file'],
  [
    'typescript',
    '{ pth: weather.ts }',
    'YAML with path (path: Invalid input: expected string, received undefined; Unrecognized key: "pth"; did you mean "path"?)',
  ],
  ['files', undefined, 'the path of a folder, such as "./notes", or YAML with root and writable'],
  ['files', 'root: notes\nwriteable: true', 'YAML with root, writable (Unrecognized key: "writeable"; did you mean "writable"?)'],
  ['files', 'writable: true', 'YAML with root, writable (root: Invalid input'],
  ['http-fetch', undefined, 'YAML with hosts, allowPrivate (hosts: Invalid input: expected array, received undefined)'],
  ['http-fetch', 'example.org', 'YAML with hosts, allowPrivate (Invalid input: expected object, received string)'],
  ['http-fetch', 'hosts: []', 'hosts: expected at least one host'],
  ['http-fetch', 'host: [example.org]', 'Unrecognized key: "host"; did you mean "hosts"?'],
  [
    'http-fetch',
    'hosts: ["https://example.org"]',
    'hosts.0: expected a host such as "example.org", "*.example.org" or "localhost:8080", given "https://example.org"',
  ],
  ['http-fetch', 'hosts: ["*"]', 'given "*"'],
  ['http-fetch', 'hosts: ["*."]', 'given "*."'],
  ['http-fetch', 'hosts: ["a.*.org"]', 'given "a.*.org"'],
  ['http-fetch', 'hosts: ["*.10.0.0.1"]', 'given "*.10.0.0.1"'],
  ['http-fetch', 'hosts: ["me@example.org"]', 'given "me@example.org"'],
  ['http-fetch', 'hosts: ["example.org/a"]', 'given "example.org/a"'],
  ['http-fetch', 'hosts: ["example.org."]', 'given "example.org."'],
  ['http-fetch', 'hosts: ["example.org:99999"]', 'given "example.org:99999"'],
  ['http-fetch', 'hosts: [""]', 'given ""'],
])('says what params of %s may be instead of %j', (runtime, params, message) => {
  expect(checkParams(runtime, params)).toContain(message)
})

test.each([
  ['calculator', 'anything'],
  ['my-company', '{ any: thing }'],
  ['typescript', 'a.ts'],
  ['files', '.'],
  ['http-fetch', 'hosts: [example.org]'],
])('has nothing to say of params of %s that can be read', (runtime, params) => {
  expect(checkParams(runtime, params)).toBeUndefined()
})
