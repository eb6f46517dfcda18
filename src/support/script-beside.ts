/** A script that is started, not imported: in the language of the file that names it. */
export function scriptBeside(url: string, name: string): URL {
  return new URL(`./${name}${url.endsWith(".js") ? ".js" : ".ts"}`, url);
}
