package templates

import (
	"embed"
	"io/fs"
)

//go:embed web
var web embed.FS

// Web holds the pages and their style sheet: "health.html", "style.css", …
var Web = sub(web, "web")

// sub returns a folder that is embedded, and is therefore always there.
func sub(fsys embed.FS, dir string) fs.FS {
	s, err := fs.Sub(fsys, dir)
	if err != nil {
		panic(err)
	}
	return s
}
