package api

import (
	_ "embed"
	"html/template"
	"net/http"
	"strings"
	"sync"

	"github.com/gin-gonic/gin"
	"go.yaml.in/yaml/v3"

	"github.com/statesvc/statesvc/api/gen"
)

// errorsPage is a copy of docs/errors.md, because a package cannot embed what is not below it.
//
//go:embed errors.md
var errorsPage string

// explanation is a row of the table of codes in docs/errors.md.
type explanation struct{ Code, Status, Retryable, Meaning, Advice string }

// explanations has the rows by code.
var explanations = sync.OnceValue(func() map[string]explanation {
	found := map[string]explanation{}
	_, table, _ := strings.Cut(errorsPage, "\n## Codes\n")
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 7 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		row := explanation{strings.Trim(cells[1], "`"), cells[2], cells[3], cells[4], cells[5]}
		found[row.Code] = row
	}
	return found
})

var pages = template.Must(template.New("").Funcs(template.FuncMap{"prose": prose}).Parse(`
{{define "head"}}<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{.}}</title><style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code,pre{font-size:.9em;background:#f4f4f4;padding:.1em .3em;border-radius:3px}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #ddd}
</style>{{end}}

{{define "problem"}}{{template "head" .Code}}<h1>{{.Code}}</h1>
<p>HTTP {{.Status}} · {{if eq .Retryable "yes"}}retryable with the same key{{else}}not retryable{{end}}</p>
<p>{{prose .Meaning}}</p><p><b>What to do:</b> {{prose .Advice}}</p><p><a href="/problems">All codes</a></p>{{end}}

{{define "problems"}}{{template "head" "Errors"}}<h1>Errors</h1><p>In the order in which they are checked.</p><table>
<tr><th>Code<th>HTTP<th>Retryable<th>Meaning</tr>{{range .}}
<tr><td><a href="/problems/{{.Code}}">{{.Code}}</a><td>{{.Status}}<td>{{.Retryable}}<td>{{prose .Meaning}}</tr>{{end}}
</table>{{end}}

{{define "docs"}}{{template "head" .Info.Title}}<h1>{{.Info.Title}} {{.Info.Version}}</h1>
<p>The contract is <a href="/openapi.yaml">/openapi.yaml</a>; errors are at <a href="/problems">/problems</a>.</p>
<pre>{{.Info.Description}}</pre><h2>Operations</h2><table><tr><th>Operation<th>Scope<th>What</tr>{{range .Operations}}
<tr><td><code>{{.Method}} {{.Path}}</code><td>{{.Scope}}<td>{{.Summary}}</tr>{{end}}
</table>{{end}}`))

// prose turns the only markup that the table of codes has, code in backquotes, into HTML.
func prose(text string) template.HTML {
	var b strings.Builder
	for i, piece := range strings.Split(text, "`") {
		if i%2 == 1 {
			b.WriteString("<code>" + template.HTMLEscapeString(piece) + "</code>")
			continue
		}
		b.WriteString(template.HTMLEscapeString(piece))
	}
	return template.HTML(b.String()) //nolint:gosec // every piece was escaped
}

// show writes a page. A template that fails does so half-way, into a reply that has begun.
func show(c *gin.Context, name string, data any) {
	c.Header("Content-Type", "text/html; charset=utf-8")
	c.Header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	c.Status(http.StatusOK)
	if err := pages.ExecuteTemplate(c.Writer, name, data); err != nil {
		_ = c.Error(err)
	}
}

func (s *server) problemPage(c *gin.Context) {
	row, ok := explanations()[c.Param("code")]
	if !ok {
		s.refuse(c, errNoRoute)
		return
	}
	show(c, "problem", row)
}

func (s *server) problemIndex(c *gin.Context) {
	rows := make([]explanation, len(problems))
	for i := range problems {
		rows[i] = explanations()[problems[i].code]
	}
	show(c, "problems", rows)
}

// contract is what the page about the interface shows of openapi.yaml.
type contract struct {
	Info struct {
		Title, Version, Description string
	}
	Paths      map[string]map[string]yaml.Node // by path and method; there are parameters among the methods
	Operations []operation                     `yaml:"-"` // in the order of routes
}

type operation struct {
	Method, Path string `yaml:"-"`
	Summary      string
	Scope        string `yaml:"x-scope"`
}

var readContract = sync.OnceValues(func() (*contract, error) {
	var c contract
	if err := yaml.Unmarshal(gen.OpenAPI, &c); err != nil {
		return nil, err
	}
	for i := range routes {
		o := operation{Method: routes[i].method, Path: routes[i].path}
		node := c.Paths[o.Path][strings.ToLower(o.Method)]
		if err := node.Decode(&o); err != nil {
			return nil, err
		}
		c.Operations = append(c.Operations, o)
	}
	return &c, nil
})

func (s *server) docs(c *gin.Context) {
	page, err := readContract()
	if err != nil {
		s.refuse(c, err)
		return
	}
	show(c, "docs", page)
}
