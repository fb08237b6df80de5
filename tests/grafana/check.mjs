/**
 * Holds dashboards against Grafana's own types, and their queries for Loki against its own grammar.
 *
 * node check.mjs FILE...: tells every fault, a line each, and exits with 1 if there is one.
 */
import { readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { parser } from '@grafana/lezer-logql';
import ts from 'typescript';

const here = dirname(fileURLToPath(import.meta.url));

const options = {
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  noEmit: true,
  skipLibCheck: true,
  strict: true,
  target: ts.ScriptTarget.ES2022,
  types: [],
};

/** What TypeScript finds wrong with dashboards that are written as literals of Grafana's type. */
function* typeFaults(files) {
  const sources = new Map(
    files.map((file) => [
      join(here, `${basename(file, '.json')}.ts`),
      `import type { GrafanaDashboard } from './model';\n` +
        `export const dashboard: GrafanaDashboard = ${readFileSync(file, 'utf8')};\n`,
    ]),
  );
  const host = ts.createCompilerHost(options);
  const { fileExists, getSourceFile } = host;
  host.fileExists = (name) => sources.has(name) || fileExists(name);
  host.getSourceFile = (name, version) =>
    sources.has(name) ? ts.createSourceFile(name, sources.get(name), version) : getSourceFile(name, version);
  const program = ts.createProgram([...sources.keys()], options, host);
  for (const fault of ts.getPreEmitDiagnostics(program)) {
    const line = fault.file ? fault.file.getLineAndCharacterOfPosition(fault.start).line : 0;
    const where = fault.file ? `${basename(fault.file.fileName, '.ts')}:${line}` : 'options';
    yield `${where}: ${ts.flattenDiagnosticMessageText(fault.messageText, ' ')}`;
  }
}

/** What the grammar of LogQL does not know in the queries for Loki. */
function* queryFaults(file) {
  for (const panel of JSON.parse(readFileSync(file, 'utf8')).panels) {
    for (const target of panel.targets ?? []) {
      if (target.datasource.type !== 'loki') continue;
      // As Grafana fills it in; a range is no string, and what is chosen stands in strings.
      const query = target.expr.replace('$__auto', '1m').replace(/\$\w+/g, 'chosen');
      const cursor = parser.parse(query).cursor();
      do {
        if (cursor.type.isError) yield `${basename(file)}: ${panel.title}: not LogQL at ${cursor.from}: ${query}`;
      } while (cursor.next());
    }
  }
}

const files = process.argv.slice(2);
const faults = [...typeFaults(files), ...files.flatMap((file) => [...queryFaults(file)])];
for (const fault of faults) console.log(fault);
process.exit(faults.length === 0 && files.length > 0 ? 0 : 1);
