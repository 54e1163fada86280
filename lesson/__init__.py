"""What surrounds the lesson of main.py, one room for each thing that has a name.

start      what happens before the libraries are loaded: are they there, the first line
options    the command line: its options, and what their words have to be
dataset    examples: reading them from JSONL and the Hub, errors with file and line, the split
findings   error analysis: misspelt, repeated, contradictory, leaked, too long
models     loading a model; what differs between models: the end of an answer, memory, reading
recipes    how to train which kind of model: rate, steps, rehearsal
rehearsal  what the model knows already: noted before training, and asked again at the end
scoring    formulas of the evaluation, whose rows main.py makes: right, still known, leaked
screen     every word that is printed, the tables, the picture of the loss, the SVG of the screen
saving     what a run leaves on the disk: the adapters, and the record in results.json
judging    the learner chooses between the answers of the last run
machine    processes of mlx.launch, memory, signals, the network's watch, and how the program ends

Dependencies point one way: main.py uses lesson/, lesson/ uses libraries, and nothing here knows
main.py. To import a module does nothing but define.
"""
