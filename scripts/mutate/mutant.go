package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
)

// A mutant is a package in which the bytes [start, end) of a file are replaced.
type mutant struct {
	file       string // its path
	source     []byte // of the file
	start, end int
	line       int
	with       string
}

// String returns FILE:LINE: OLD → NEW.
func (m mutant) String() string {
	short := func(s string) string {
		s = strings.Join(strings.Fields(s), " ")
		if s == "" {
			return "nothing"
		}
		return s
	}
	// The whole line shows what is compared or counted.
	from, to := m.start, m.end
	for from > 0 && m.source[from-1] != '\n' {
		from--
	}
	for to < len(m.source) && m.source[to] != '\n' {
		to++
	}
	old := string(m.source[from:to])
	return fmt.Sprintf("%s:%d: %s → %s", filepath.Base(m.file), m.line, short(old),
		short(string(m.source[from:m.start])+m.with+string(m.source[m.end:to])))
}

// overlay writes the changed file to dir, and the file that go test -overlay wants.
func (m mutant) overlay(dir string) (path string, err error) {
	changed := filepath.Join(dir, "mutant.go")
	text := string(m.source[:m.start]) + m.with + string(m.source[m.end:])
	if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
		return "", err
	}
	b, err := json.Marshal(map[string]map[string]string{"Replace": {m.file: changed}})
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, b, 0o600)
}

// operators are the operators that a mistake takes for one another.
var operators = map[token.Token]token.Token{
	token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR,
	token.EQL: token.NEQ, token.NEQ: token.EQL,
	token.LAND: token.LOR, token.LOR: token.LAND,
	token.ADD: token.SUB, token.SUB: token.ADD, token.MUL: token.QUO, token.QUO: token.MUL,
	token.SHL: token.SHR, token.SHR: token.SHL, token.AND: token.OR, token.OR: token.AND,
}

// mutantsOf returns all mutants of the files of a folder, in their order.
func mutantsOf(dir string, files []string) ([]mutant, error) {
	var all []mutant
	for _, name := range files {
		path := filepath.Join(dir, name)
		source, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, path, source, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		add := func(from, to token.Pos, with string) {
			at := set.Position(from)
			all = append(all, mutant{path, source, at.Offset, set.Position(to).Offset, at.Line, with})
		}
		text := func(n ast.Node) string {
			return string(source[set.Position(n.Pos()).Offset:set.Position(n.End()).Offset])
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GenDecl:
				return n.Tok != token.IMPORT
			case *ast.BinaryExpr:
				if other, ok := operators[n.Op]; ok {
					add(n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), other.String())
				}
			case *ast.BasicLit:
				if n.Kind == token.INT {
					add(n.Pos(), n.End(), "("+n.Value+" + 1)")
				}
			case *ast.IfStmt:
				add(n.Cond.Pos(), n.Cond.End(), "!("+text(n.Cond)+")")
			case *ast.BlockStmt:
				for _, s := range n.List {
					if removable(s) {
						add(s.Pos(), s.End(), "")
					}
				}
			case *ast.CaseClause:
				for _, s := range n.Body {
					if removable(s) {
						add(s.Pos(), s.End(), "")
					}
				}
			}
			return true
		})
	}
	return all, nil
}

// removable reports whether a program may still compile without the statement.
func removable(s ast.Stmt) bool {
	switch s := s.(type) {
	case *ast.AssignStmt:
		return s.Tok != token.DEFINE
	case *ast.ExprStmt, *ast.IncDecStmt, *ast.BranchStmt, *ast.ReturnStmt, *ast.SendStmt, *ast.DeferStmt:
		return true
	}
	return false
}
