"""What surrounds the lesson of main.py, one room for each thing that has a name.

start      what happens before the libraries are loaded: the first line, their settings
dataset    examples: reading them from JSONL and the Hub, errors with file and line, the split
findings   error analysis: misspelt, repeated, contradictory, leaked, too long
models     what differs from model to model: how it is found, where an answer ends, how it is read
scoring    formulas of the evaluation: right in other words, still known, leaked, how sure that is
screen     every word that is printed, the tables, the picture of the loss, the SVG of the screen
results    the adapters and results.json: saved, read, and judged
machine    processes of mlx.launch, memory, signals, the network's watch, and how the program ends
options    what the command line's words have to be

Dependencies point one way: main.py uses lesson/, lesson/ uses libraries, and nothing here knows
main.py. To import a module does nothing but define.
"""
