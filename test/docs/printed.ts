/** Compares what a page says that a command prints with what it printed: loosely, for times, ids and ports are others each time. */

/** The first line that is shown and was not printed after the one before it; undefined when all were. `…` stands for anything. */
export function lineNotPrinted(shown: string, printed: string): string | undefined {
  const lines = printed.split('\n').map(plain)
  let at = 0
  for (const line of shown.split('\n')) {
    if (plain(line) === '' || plain(line) === '…') continue
    const wanted = patternOf(plain(line))
    while (at < lines.length && !wanted.test(lines[at]!)) at++
    if (at++ === lines.length) return line.trim()
  }
  return undefined
}

/** Without what differs from run to run: ids, ports, how long something took, how many tokens it cost, and how long a bar is. */
function plain(line: string): string {
  return line
    .replaceAll(/[━┄]/g, ' ')
    .replaceAll(/\bh?[0-9a-f]{7,}\b/g, 'ID')
    .replaceAll(/(127\.0\.0\.1):\d+/g, '$1:PORT')
    .replaceAll(/\b\d+(?:\.\d+)?(ms| ms| s| tokens)\b/g, 'N$1')
    .replaceAll(/\s+/g, ' ')
    .trim()
}

function patternOf(line: string): RegExp {
  const parts = line.split('…').map((part) => part.trim().replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`))
  return new RegExp(`^${parts.join('.*')}$`)
}
