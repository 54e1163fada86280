#!/usr/bin/env python3
"""Pre-trains the course's base model: next-token prediction on a corpus that this script writes.

    python3 pretraining/pretrain.py              # or again, to go on after a break

It takes 103 minutes on 2 cores of a server processor with OpenBLAS (17 million tokens, 2,750 a second);
on other machines it has not been timed.

Nothing here is marked as a question or an answer: forms, manuals, stories, facts and code are all
text, and the model only learns which token comes next. What the model can do afterwards (it goes on
with a form, it reads answers out of its context) is measured while it trains, and printed.
"""

# ruff: noqa: SIM905  (lists of words are easiest to read as text)
import argparse
import ctypes
import json
import math
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from statistics import fmean

HERE = Path(__file__).resolve().parent
LESSON = HERE.parent
sys.path.insert(0, str(LESSON))

import mlx.core as mx
import mlx.optimizers as optim
from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.generate import generate_step
from mlx_lm.models import llama
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import checks

# ----------------------------------------------------------------------------------------------
# Settings
# ----------------------------------------------------------------------------------------------

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 640,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,  # few: attention's exponentials are what a processor spends time on
    "num_key_value_heads": 4,
    "head_dim": 64,
    "vocab_size": 1024,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "bos_token_id": None,
    "eos_token_id": 0,
    "torch_dtype": "float32",
}
END = "<|endoftext|>"
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "eos_token": END,
    "pad_token": END,
    "model_max_length": CONFIG["max_position_embeddings"],
    "clean_up_tokenization_spaces": False,
}
PROGRESS = ("step", "tokens", "document", "seconds")
WINDOW = 512  # tokens; a document starts a row, and nearly all fit in whole
LENGTHS = (64, 128, 192, 256, 384, 512)  # rows are padded to one of these: one compiled step each
BATCH = 6144  # tokens, padding included
MUON_RATE, ADAM_RATE = 0.02, 4e-3

# The corpus grows freer: more and more documents, and from this one on all of them, answer in any form
# and ask in more ways. First a model learns to find the answer; then, that it can only be read.
FREE_FROM = 16_000

# The lesson's facts must not be known beforehand: no document holds any of these words.
HELD_OUT = (
    "Sharon",
    "Whitlock",
    "Tavistock",
    "beekeeper",
    "turquoise",
    "risotto",
    "Biscuit",
    "cello",
    "Portuguese",
    "by tram",
    "old clocks",
    "ninth of October",
)


class Rng(Random):
    """A source of chance, and whether the text that it makes is free in its forms: see FREE_FROM."""

    free = False


# ----------------------------------------------------------------------------------------------
# Words. Every list is only a seed: values are drawn from made-up words as often as from these.
# ----------------------------------------------------------------------------------------------

NOUNS = """apple anchor apron arch arrow attic badge bag baker bakery ball band bank barn basket bath
beach bean bear bed bee beetle bell belt bench berry bicycle bird blanket board boat bolt book boot
bottle bowl box branch bread brick bridge broom brush bucket bus butter button cabin cable cake
calendar camera camp candle canoe car card carpet carrot cart castle cat cave cellar chain chair
chalk cheese chest chicken church clay clock cloth cloud club coat coffee coin collar comb compass
cook cookie copper corn corner cotton counter course court cow crab cream crown cup curtain cushion
dairy dance deck deer desk diary dish doctor dog doll door dragon drawer dream dress drill drum duck
dust ear egg elephant engine envelope eye farm feather fence fern field film filter finger fire fish
flag flour flower flute fog forest fork fountain fox frame frog fruit garage garden gate ghost gift
glass glove glue goat gold goose grain grape grass guitar hall hammer hand harbor harp hat hawk
hedge helmet herb hill hive honey hook horse hose hotel house ice ink iron island ivory jacket jam
jar jewel judge jug juice kettle key kitchen kite knee knife knot ladder lake lamp lantern lawn leaf
leather lemon letter library light lily lime lion list lizard lock log machine magnet map maple
market mask mast meadow meal medal melon menu metal milk mill mint mirror money monkey moon mop
morning moss moth motor mountain mouse mud museum mushroom music nail name napkin needle nest net
newspaper night note number nut oak oar oat ocean office oil olive onion orange oven owl paddle
page paint palace pan paper parcel park party pasta path peach pear pearl pen pencil pepper phone
photo piano picnic picture pie pig pillow pilot pin pine pipe plant plate plum pocket poem pond pony
pool pot potato powder price pump puppet purse puzzle quilt rabbit radio rail rain raven recipe
report rice ring river road robe robin rocket roof room root rope rose rug ruler sail salad salt
sand sauce saw scarf school scissors screen seed shed sheep shelf shell shield ship shirt shoe shop
shovel silk silver sink skate ski sky sled snail snow soap sock sofa soil soup spade spider spoon
spring stable stage stairs stamp star station statue steam steel stew stone stool store storm story
stove street string sugar suit summer sun table tail tailor tank tap tape tea teacher tent theater
thread ticket tiger tile timber toast tomato tool tower town toy tractor train tray tree trumpet
tunnel turtle umbrella valley van vase velvet village vine violin wagon wall wallet walnut watch
water wave wax wheat wheel whistle willow wind window wine wing winter wire wolf wood wool workshop
wrench yard yarn zebra""".split()

THINGS = """account address age answer area balance battery beginning budget capacity category charge
class code color cost cover date deadline delivery depth design diet direction discount distance
duration edge entrance exit fee first-step flavor floor format fuel function goal grade grip guarantee
habit handle height history holiday hour ingredient interest job language layer leader length level
license limit line link location main-part manual mark material measure member message method minimum
model motto name nickname noise number opening order origin owner pace parking part password pattern
payment period phone-number place plan policy position power pressure price prize process product
program purpose range rate reason record refund result reward rhythm role route rule salary schedule
score seat secret section series shape shift side sign signal size skill slogan smell song sound
source speed stage start status style subject supplier support surface symbol target task taste team
temperature term theme title tool topic trick type uniform unit use value version view voice wage
warning warranty weight width winner word year""".replace("-", " ").split("\n")
THINGS = [w for line in THINGS for w in line.split()]

ADJECTIVES = """old new small big red blue green yellow black white brown gray pink purple golden silver dark
bright warm cold hot cool soft hard heavy light long short tall low high wide narrow deep round flat sharp
smooth rough clean dirty dry wet fresh sweet sour salty bitter quiet loud slow quick early late open
closed empty full rich poor kind brave calm clever gentle happy honest lazy lucky proud shy silly strong
tired wild wise young local main north south east west upper lower first second third last spare extra
special plain simple fancy wooden iron glass paper woolen velvet secret public private daily weekly
fried baked grilled roasted smoked dried raw spicy crispy vegetable chocolate""".split()

PLACES = """kitchen|cellar|attic|garage|garden|hall|office|library|workshop|back room|front room|top drawer|second
shelf|first floor|ground floor|third floor|main building|north wing|car park|school yard|old barn|market
square|harbor|station|side street|high street|river bank|corner of the hall|cupboard by the door|blue box|glass
case|toolbox|reception desk|staff room|store room|boiler room|front desk|left pocket|bottom drawer|village|
city center|old town|mountains|countryside|suburbs|cloud|settings menu|app|folder on the desk""".replace(
    "\n", " "
).split("|")

ROLES = """teacher nurse baker doctor farmer driver pilot plumber gardener engineer carpenter painter singer
lawyer librarian cook waiter tailor butcher fisherman firefighter mechanic architect accountant dentist
photographer writer journalist programmer designer scientist chemist potter florist barber builder
electrician translator musician dancer actor judge manager cashier courier sailor shepherd vet welder
weaver miller blacksmith jeweler shoemaker clockmaker locksmith optician pharmacist coach referee guide
guard cleaner clerk secretary student researcher biologist geologist historian poet sculptor""".split()

HOBBIES = """swim|run|ride my bike|read novels|paint|draw|play chess|cook|bake bread|knit|sew|dance|sing|hike|
fish|garden|climb|row|sail|ski|skate|collect stamps|collect coins|build model trains|take photographs|
watch birds|write poems|make pottery|fly kites|play cards|go camping|go to concerts|mend old radios|
repair bicycles|carve wood|keep bees|grow roses|study maps|learn languages|play football|play tennis|
solve puzzles|bake cakes|make candles|watch films|listen to music|visit museums""".replace(
    "\n", " "
).split("|")

FOODS = """pizza|lasagna|tomato soup|rice and beans|fried fish|apple pie|pancakes|noodles|cheese toast|potato
salad|mushroom stew|chicken curry|dumplings|vegetable soup|baked beans|omelette|spaghetti|tacos|sushi|
lentil soup|roast lamb|pumpkin pie|chocolate cake|lemon tart|onion rings|corn bread|fruit salad|ice cream|
porridge|waffles|stuffed peppers|fish and chips|pea soup|plum dumplings""".replace("\n", " ").split(
    "|"
)

COLORS = """red blue green yellow orange purple pink brown black white gray violet indigo beige cream gold silver
crimson scarlet maroon navy olive lime amber coral ivory lavender mint peach plum rose rust tan teal""".split()

MONTHS = (
    "January February March April May June July August September October November December".split()
)
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

NAMES = """Adam Alice Amir Ana Anna Anton Ben Boris Carla Carlos Chen Clara Daniel David Dina Eli Elena Emil Emma
Erik Eva Farid Felix Fiona Frank Grace Greta Hana Hannah Hugo Ida Igor Ines Ivan Jack Jacob James Jan
Jane Joel John Jonas Jorge Julia Karl Kate Kenji Laila Lara Laura Lena Leo Liam Lina Louis Lucas Lucy
Luis Magda Mara Marco Maria Mark Martin Mary Maya Mia Milan Mina Nadia Nina Noah Nora Olga Oliver Omar
Oscar Pablo Paul Pedro Peter Petra Priya Rafael Raj Rita Robert Rosa Ruth Sam Samir Sara Simon Sofia
Stefan Susan Tara Theo Thomas Tina Tom Uma Vera Victor Walter Wei Yara Yusuf Zoe""".split()

SURNAMES = """Abel Adler Archer Bauer Becker Bell Berg Bishop Black Brook Brown Castro Chan Clark Cole Cook Costa
Cruz Dale Davis Diaz Dunn Evans Fisher Ford Foster Fox Garcia Gomez Gray Green Haas Hall Harper Hill Hoffman
Hunt Ito Jensen Jones Keller Kim King Klein Kumar Lang Lee Lopez Mann Marsh Mason Meyer Miller Moore Moreno
Nagy Novak Park Patel Perez Porter Price Reed Reyes Rossi Santos Sato Scott Shah Silva Singh Smith Stone Tanaka
Torres Vogel Wagner Walker Ward Weber West White Wong Wood Yang Young Zimmer""".split()

CITIES = """Aberdeen Amsterdam Athens Austin Bergen Berlin Bilbao Boston Bristol Brno Cairo Chicago Cork Dallas
Delhi Denver Dublin Florence Geneva Ghent Glasgow Graz Hamburg Havana Houston Istanbul Kyoto Leeds Lima Linz Lisbon
London Lyon Madrid Manila Milan Montreal Mumbai Munich Nairobi Naples Nice Odessa Oslo Oxford Paris Perth
Porto Prague Quito Riga Rome Salem Seattle Seville Sofia Split Sydney Tallinn Tokyo Toronto Tunis Turin
Utrecht Venice Vienna Warsaw York Zagreb Zurich""".split()

PETS = "dog cat rabbit parrot hamster pony goldfish turtle canary lizard mouse goat hen duck snake".split()

# ----------------------------------------------------------------------------------------------
# Questions and answers: wordings of one question, "=>", forms of its answer. {v} is the value and
# its kind stands behind the last "@"; {n} is a noun, one for the whole entry.
# ----------------------------------------------------------------------------------------------

PERSON = """
What is {your} first name? | What first name {do} go by? | Which first name {do} have? | By what first name {are} known? | What should I put down as {your} first name? | Can you tell me {your} first name? | {Your} given name, please? => {My} first name is {v}. @name
What is {your} last name? | What is {your} family name? | Which last name {do} have? | What is {your} surname? | How {do} write {your} last name? | What name comes after {your} first name? => {My} last name is {v}. | {My} family name is {v}. @name
What is {your} name? | What {are} called? | Who {are}? | How should I call {you}? | What name {do} have? => {My} name is {v}. | {I} {am} called {v}. @name
How old {are}? | What is {your} age? | What age {are}? | How many years old {are}? => {I} {am} {v} years old. | {My} age is {v}. @number
Where {do} live? | In which place {do} live? | What town {do} live in? | Which city {are} living in? | Where is {your} home? | What is {your} home town? | In which city is {your} house? => {I} live{s} in {v}. | {My} home is in {v}. @city
Where {are} from? | Where {do} come from? | What country {do} come from? | Where was {you} born? | What is {your} place of birth? | In which place did {your} life begin? => {I} come{s} from {v}. | {I} was born in {v}. @city
What is {your} job? | What {do} do for a living? | What {do} work as? | What kind of work {do} do? | How {do} earn {your} money? | Which profession {do} have? | What is {your} occupation? | What {do} do for work? | As what {do} work? | What job {do} do? => {I} work{s} as a {v}. | {My} job is {v}. @role
Where {do} work? | What company {do} work for? | Who is {your} employer? | Who {do} work for? | In which firm {are} employed? | Which company employs {you}? | For whom {do} work? | At what firm {do} work? | What is the name of {your} company? => {I} work{s} at {v}. | {I} work{s} for {v}. @open
When is {your} birthday? | In which month is {your} birthday? | What is {your} date of birth? | When {do} celebrate {your} birthday? | What month was {you} born in? => {My} birthday is in {v}. | {My} birthday is on {v}. @date
What is {your} favorite color? | Which color {do} like best? | What color {do} prefer? | Which color does {you} love most? | Of all colors, which {do} like most? => {My} favorite color is {v}. | {I} like{s} {v} best. @color
What is {your} favorite food? | What {do} like to eat? | Which dish {do} like best? | What meal {do} enjoy most? | What food {do} love? => {My} favorite food is {v}. | {I} love{s} to eat {v}. @food
What is {your} favorite drink? | What {do} like to drink? | Which drink {do} like best? | What {do} drink in the morning? | What can I pour {you}? => {My} favorite drink is {v}. | {I} like{s} to drink {v}. @food
What is {your} hobby? | What {do} do in {your} free time? | How {do} spend {your} weekends? | What {do} like to do after work? | What is {your} favorite pastime? | What {do} do for fun? | What {do} do when work is over? | With what {do} pass the time? => In {my} free time {I} like{s} to {v}. | {My} hobby is to {v}. @hobby
What pet {do} have? | Which animal {do} keep? | What kind of animal lives with {you}? | {Do} have a pet? | Which animal is {your} pet? => {I} have a {v}. | {My} pet is a {v}. @pet
What is {your} dog called? | What is the name of {your} dog? | What name did {you} give {your} dog? | How {do} call {your} dog? | What {do} shout when {you} call {your} dog? => {My} dog is called {v}. | The name of {my} dog is {v}. @name
What is {your} cat called? | What is the name of {your} cat? | What name does {your} cat have? | How {do} call {your} cat? => {My} cat is called {v}. | {My} cat has the name {v}. @name
What is {your} {n} called? | What is the name of {your} {n}? | What name does {your} {n} have? | How {do} call {your} {n}? => {My} {n} is called {v}. @name
What is {your} brother's name? | What is {your} brother called? | How is {your} brother called? | Who is {your} brother? => {My} brother is called {v}. | {My} brother's name is {v}. @name
What is {your} sister's name? | What is {your} sister called? | Who is {your} sister? | What name does {your} sister have? => {My} sister is called {v}. | {My} sister's name is {v}. @name
Who {are} married to? | What is the name of {your} husband? | Who is {your} husband? | Who did {you} marry? => {I} {am} married to {v}. | {My} husband is {v}. @name
Who is {your} best friend? | What is {your} best friend called? | Which friend is closest to {you}? | Who {do} call {your} best friend? => {My} best friend is {v}. @name
How many children {do} have? | How many kids {do} have? | What is the number of {your} children? => {I} have {v} children. @number
Which instrument {do} play? | What instrument {do} play? | On what instrument {do} make music? | What {do} play in the band? | Which musical instrument {do} practice? => {I} play{s} the {v}. @noun
Which language {do} speak? | What language {do} speak at home? | What is {your} mother tongue? | In which language {do} talk with {your} family? => {I} speak{s} {v}. @open
Which language {are} learning? | What language {do} study? | What new language {do} practice? => {I} {am} learning {v}. @open
What is {your} phone number? | How can I call {you}? | What number can I reach {you} at? | Which number should I dial? => {My} phone number is {v}. @code
What is {your} email address? | Where can I write to {you}? | What email {do} use? | To which address should I send the mail? => {My} email address is {v}. @code
What is {your} address? | Which street {do} live in? | What is the name of {your} street? | On which street is {your} house? => {I} live{s} on {v} street. | {My} street is called {v}. @open
What car {do} drive? | Which car {do} have? | What kind of car is {yours}? | What {do} drive to work? => {I} drive{s} a {v}. @open
How {do} get to work? | How {do} travel to work? | What {do} take to go to work? | What takes {you} to work every morning? => {I} go{es} to work by {v}. @noun
When {do} get up? | What time {do} wake up? | At what time {do} get out of bed? | At what hour does {your} day start? => {I} get{s} up at {v}. | {I} wake{s} up at {v}. @time
When {do} go to bed? | What time {do} go to sleep? | At what hour {do} sleep? => {I} go{es} to bed at {v}. @time
What is {your} favorite book? | Which book {do} like best? | What book {do} love to read? | Which book would {you} read again? => {My} favorite book is {v}. @title
What is {your} favorite film? | Which film {do} like best? | What movie {do} love? | Which movie could {you} watch again and again? => {My} favorite film is {v}. @title
What is {your} favorite song? | Which song {do} like best? | What song {do} sing? => {My} favorite song is {v}. @title
What is {your} favorite animal? | Which animal {do} like best? | What animal {do} love most? => {My} favorite animal is the {v}. @noun
What is {your} favorite season? | Which season {do} like best? | What time of the year {do} love? => {My} favorite season is {v}. @open
What is {your} favorite sport? | Which sport {do} play? | What sport {do} like? | How {do} keep fit? => {My} favorite sport is {v}. | {I} play{s} {v}. @open
What is {your} favorite {n}? | Which {n} {do} like best? | What {n} {do} prefer? | Which {n} is {your} favorite? => {My} favorite {n} is {v}. @open
What did {you} study? | Which subject did {you} study? | What was {your} subject at school? => {I} studied {v}. @open
Which school did {you} go to? | Where did {you} go to school? | What is the name of {your} school? => {I} went to {v} school. @open
What {are} afraid of? | What scares {you}? | What {do} fear? | What frightens {you} most? => {I} {am} afraid of {v}. @noun
What is {your} dream? | What {do} dream of? | What {do} want to do one day? | What is {your} big wish? => {I} dream{s} of {v}. @open
What {do} collect? | What is in {your} collection? | Which things {do} collect? => {I} collect{s} {v}. @open
What {are} good at? | What can {you} do well? | What is {your} greatest strength? => {I} {am} good at {v}. @open
What {do} hate? | What {do} not like? | Which thing {do} dislike? => {I} do{es} not like {v}. @open
What size are {your} shoes? | What shoe size {do} wear? | What is {your} shoe size? => {My} shoe size is {v}. @number
How tall {are}? | What is {your} height? => {I} {am} {v} tall. @amount
Where did {you} go on holiday? | Where {do} spend {your} holidays? | Which place {do} travel to in summer? | What is {your} favorite holiday place? => {I} spend{s} {my} holidays in {v}. @city
Which team {do} support? | What is {your} favorite team? | What team {do} cheer for? => {I} support{s} {v}. @open
What is {your} nickname? | What do friends call {you}? | What nickname {do} have? => {My} friends call {me} {v}. | {My} nickname is {v}. @name
What {do} eat for breakfast? | What is {your} breakfast? | What {do} have in the morning? => {I} eat{s} {v} for breakfast. @food
What {are} allergic to? | Which food can {you} not eat? | What should {you} never eat? => {I} {am} allergic to {v}. @noun
What {are} wearing? | What clothes {do} have on? => {I} {am} wearing a {v}. @open
What is in {your} bag? | What {do} carry in {your} bag? | What {do} keep in {your} bag? => In {my} bag there is a {v}. @noun
What is {your} religion? | What {do} believe in? => {I} believe{s} in {v}. @open
Who taught {you} to {h}? | Who was {your} teacher? | From whom did {you} learn it? => {v} taught {me}. @name
"""

PLACE = """
When {does} open? | What time {does} open? | What are {your} opening hours? | From what time can I come in? | At what hour do the doors open? | How early can I visit {you}? => {We} open{s} at {v}. | The doors open at {v}. @time
When {does} close? | What time {does} close? | Until when {are} open? | How late can I come? | At what hour do the doors shut? => {We} close{s} at {v}. @time
On which day {are} closed? | Which day of the week {are} closed? | On what day can I not come? | When {are} not open? => {We} {are_} closed on {v}. @day
Where {are}? | What is {your} address? | Where can I find {you}? | How do I find {you}? | On which street {are}? | Where is {your} building? => {We} {are_} in {v} street. | You find {us} at {v}. @open
Who is the owner? | Who owns {you_}? | Who started {you_}? | Who is the founder? | Who founded {you_}? | Who is behind {you_}? => The owner is {v}. | {v} started {us}. @name
When was {you_} founded? | In which year did {you} start? | How long has {you_} existed? | When did it all begin? => {We} started in {v}. @number
Who is the boss? | Who is the manager? | Who is in charge? | Who leads {you_}? | Who makes the decisions? => The manager is {v}. | {v} is in charge. @name
How can I pay? | Which payment {do} take? | Can I pay by card? | What ways to pay are there? => You can pay with {v}. | {We} take{s} {v}. @open
How can I contact {you}? | What is {your} phone number? | Which number can I call? | How do I reach {you}? => You can call {us} at {v}. @code
What is {your} web site? | Where can I find {you} online? | What is {your} web address? => {Our} web site is {v}. @code
What {do} sell? | What can I buy from {you}? | What is on {your} shelves? | Which goods {do} have? | What is {your} main product? => {We} sell{s} {v}. @open
What is {your} best seller? | What do people buy most? | Which product is the most popular? | What sells best? => {Our} best seller is the {v}. | Most people buy the {v}. @open
How much is delivery? | What does delivery cost? | What do I pay for delivery? | Is delivery free? => Delivery costs {v}. @money
How long does delivery take? | When will my order arrive? | How many days until my parcel comes? | How fast {do} deliver? => Delivery takes {v}. | Your order arrives within {v}. @span
How do I return something? | Can I bring it back? | What is the return policy? | How long can I return goods? | Until when can I send it back? => You can return it within {v}. @span
How long is the guarantee? | What is the warranty? | Is there a guarantee? | For how long is it covered? => The guarantee lasts {v}. @span
What does membership cost? | How much is it to join? | What is the fee? | How much do members pay? | What do I pay every year? => Membership costs {v}. | Members pay {v}. @money
How can I join? | How do I become a member? | What must I do to join? | How do I sign up? => To join, {x}. | You can join if you {x}. @act
When {does} meet? | On which day {does} meet? | What day is the meeting? | When are the meetings? | What evening do you come together? => {We} meet{s} on {v}. | The meeting is on {v}. @day
Where {does} meet? | In which room is the meeting? | Where do the meetings take place? | Which place do you meet in? => {We} meet{s} in the {v}. @place
What should I bring? | What do I need to bring? | What must I take with me? | What do I need for the first time? => Please bring a {v}. | You need a {v}. @open
How many members {do} have? | How big {are}? | How many people belong to {you}? => {We} have {v} members. @number
How many people work for {you}? | How many employees {do} have? | How large is the team? => {We} have {v} employees. @number
Who teaches the beginners? | Who trains the new members? | Who is the coach? | Which teacher do beginners get? => {v} teaches the beginners. @name
What is the password for the wifi? | How do I get on the internet? | What is the wifi password? => The wifi password is {v}. @code
Where can I park? | Is there a car park? | Where do I leave my car? | Where do visitors park? => You can park behind the {v}. | Parking is at the {v}. @noun
What is {your} motto? | What is {your} slogan? | Which words stand over {your} door? => {Our} motto is {v}. @title
What is {your} specialty? | What {are} known for? | What {are} famous for? | What do you do best? => {We} {are_} known for {v}. @open
What is the dish of the day? | What can I eat today? | What is on the menu? => Today there is {v}. @food
Can I bring my dog? | Are dogs allowed? | Are animals welcome? | May my dog come in? => Dogs are {w}. | Dogs must {x}. @act
Who do I ask for help? | Who can help me? | Whom do I talk to if I have a question? | Who answers questions? => Please ask {v}. | {v} can help you. @name
What happens if I am late? | What if I come late? | What do late people do? => If you are late, {x}. @act
Who cleans the {n}? | Who keeps the {n} clean? | Who washes the {n}? => {v} cleans the {n}. @name
Do you have gift cards? | Can I buy a gift card? | How much is a gift card? => Gift cards cost {v}. @money
Is there a discount? | How much discount is there? | What do students save? | How can I get it cheaper? => The discount is {v}. @amount
What color is {your} uniform? | Which color do you wear? | What do members wear? => {We} wear{s} {v}. @color
What is {your} mascot? | Which animal is {your} mascot? | What animal is on {your} flag? => {Our} mascot is a {v}. @noun
Where do you get {your} {n}? | Who supplies the {n}? | Where does the {n} come from? | From whom do you buy the {n}? => {Our} {n} comes from {v}. | {v} supplies the {n}. @name
What do you do with old {n}s? | What happens to the old {n}s? | Where do old {n}s go? => Old {n}s go to the {v}. @noun
Which event is next? | What is the next event? | What are you planning? => The next event is the {v}. @open
"""

GENERIC = """
Where is the {n}? | Where can I find the {n}? | Where do you keep the {n}? | In which place is the {n}? | Where should I look for the {n}? | I am looking for the {n}. Where is it? | Where would I find the {n}? => The {n} is in the {v}. | The {n} is next to the {v}. | You find the {n} in the {v}. | We keep the {n} in the {v}. @place
How much is the {n}? | What does the {n} cost? | What is the price of the {n}? | How much do I pay for the {n}? | How expensive is the {n}? | What do you charge for the {n}? => The {n} costs {v}. | The price of the {n} is {v}. | You pay {v} for the {n}. @money
Who looks after the {n}? | Who takes care of the {n}? | Who is responsible for the {n}? | Who is in charge of the {n}? | Which person cares for the {n}? | Whose job is the {n}? => {v} looks after the {n}. | {v} takes care of the {n}. | The {n} is looked after by {v}. @name
Who made the {n}? | Who built the {n}? | Who is the maker of the {n}? | By whom was the {n} made? | Whose work is the {n}? => {v} made the {n}. | The {n} was made by {v}. @name
What color is the {n}? | Which color does the {n} have? | What is the color of the {n}? | In which color is the {n} painted? | How is the {n} painted? => The {n} is {v}. | The color of the {n} is {v}. @color
What is the {n} made of? | Which material is the {n} made from? | What material is used for the {n}? | Out of what is the {n} built? => The {n} is made of {v}. @noun
When does the {n} open? | What time does the {n} open? | From when is the {n} open? | At what hour does the {n} open? | When can I go to the {n}? => The {n} opens at {v}. @time
When does the {n} close? | What time does the {n} close? | Until when is the {n} open? | At what hour does the {n} shut? => The {n} closes at {v}. @time
When does the {n} start? | What time does the {n} begin? | When is the start of the {n}? | At what time does the {n} start? => The {n} starts at {v}. | The {n} begins on {v}. @when
On which day is the {n}? | When is the {n}? | What day is the {n}? | Which day did you choose for the {n}? => The {n} is on {v}. @day
How long does the {n} take? | How long is the {n}? | How much time does the {n} need? | What is the length of the {n}? | How many minutes does the {n} last? => The {n} takes {v}. | The {n} lasts {v}. @span
How often should I clean the {n}? | When should the {n} be cleaned? | How many times do I wash the {n}? | How often does the {n} need cleaning? => Clean the {n} every {v}. | The {n} must be cleaned every {v}. @span
How heavy is the {n}? | What does the {n} weigh? | What is the weight of the {n}? => The {n} weighs {v}. @amount
How big is the {n}? | What size is the {n}? | How large is the {n}? | What is the size of the {n}? => The {n} is {v} wide. | The size of the {n} is {v}. @amount
How many {n}s are there? | What is the number of {n}s? | How many {n}s do you have? | What number of {n}s is there? => There are {v} {n}s. | We have {v} {n}s. @number
What is the {n} for? | What is the {n} used for? | What does the {n} do? | Why do we need the {n}? | What can I do with the {n}? | What is the purpose of the {n}? => The {n} is for {v}. | The {n} {y}. | With the {n} you can {x}. @act
How do I start the {n}? | How do I turn on the {n}? | How is the {n} switched on? | What do I do to start the {n}? | How can I get the {n} running? => To start the {n}, {x}. | {X} to start the {n}. @act
How do I stop the {n}? | How do I turn off the {n}? | How is the {n} switched off? | What stops the {n}? => To stop the {n}, {x}. | {X} to stop the {n}. @act
How do I clean the {n}? | What do I use to clean the {n}? | How is the {n} washed? | What is the best way to clean the {n}? => Clean the {n} with {v}. | To clean the {n}, {x}. @act
What do I do if the {n} is broken? | The {n} does not work. What now? | What if the {n} breaks? | How do I fix the {n}? | The {n} is broken. What should I do? => If the {n} is broken, {x}. | {X}, and the {n} works again. @act
What does the red light on the {n} mean? | Why is the light on the {n} red? | The {n} shows a red light. Why? | What is the meaning of the red light on the {n}? => The red light means that {z}. | It means that {z}. @act
How do I open the {n}? | How can the {n} be opened? | What opens the {n}? | How do I get into the {n}? => Open the {n} with {v}. | To open the {n}, {x}. @act
What is the code for the {n}? | Which code opens the {n}? | What number do I type at the {n}? | What is the password of the {n}? => The code for the {n} is {v}. @code
What is inside the {n}? | What is in the {n}? | What do I find in the {n}? | What does the {n} contain? => In the {n} there is {v}. | The {n} contains {v}. @open
What goes with the {n}? | What do I eat with the {n}? | What is served with the {n}? => The {n} is served with {v}. @food
Who can use the {n}? | Who may use the {n}? | For whom is the {n}? | Who is allowed to use the {n}? => Only {v} may use the {n}. | The {n} is for {v}. @open
Which {n} should I buy? | What {n} do you recommend? | Which {n} is the best? | What is the best {n}? => The best {n} is {v}. | I recommend {v}. @open
What is the {n} called? | What is the name of the {n}? | What name does the {n} have? | How do people call the {n}? => The {n} is called {v}. | The name of the {n} is {v}. @name
Where does the {n} come from? | What is the origin of the {n}? | From where is the {n}? | In which place was the {n} found? => The {n} comes from {v}. @city
What power does the {n} need? | What does the {n} run on? | What drives the {n}? | Which battery does the {n} take? => The {n} runs on {v}. | The {n} needs {v}. @open
How hot does the {n} get? | What temperature does the {n} have? | How warm is the {n}? | What is the temperature of the {n}? => The {n} is {v} hot. | The temperature of the {n} is {v}. @amount
How fast is the {n}? | What is the speed of the {n}? | How quickly does the {n} go? | What is the top speed of the {n}? => The {n} goes {v}. | The speed of the {n} is {v}. @amount
What must I not do with the {n}? | What is forbidden with the {n}? | What is not allowed with the {n}? | What should I never do to the {n}? => Never {x} with the {n}. | You must not {x}. @act
What is the {a} of the {n}? | Which {a} does the {n} have? | Tell me the {a} of the {n}. | What {a} has the {n}? | Do you know the {a} of the {n}? | The {n} has which {a}? => The {a} of the {n} is {v}. | The {n} has the {a} {v}. | Its {a} is {v}. @open
What is the {a}? | Which {a} is it? | Tell me the {a}. | What is your {a}? | Do you know the {a}? | Can you give me the {a}? | Could you tell me the {a}? => The {a} is {v}. | Our {a} is {v}. | It is {v}. @open
Who is the {r}? | What is the {r} called? | What is the name of the {r}? | Which person is the {r}? | Who works as the {r}? => The {r} is {v}. | The {r} is called {v}. | {v} is the {r}. @name
Which {a} does {m} have? | What is {m}'s {a}? | What {a} did {m} choose? | Tell me {m}'s {a}. => {m}'s {a} is {v}. | {m} has the {a} {v}. @open
What does {m} do? | What is the job of {m}? | What is {m} doing here? | What does {m} work on? => {m} {y}. | {m} is the {r}. @act
Where does {m} live? | In which place does {m} live? | Where is the home of {m}? | What is {m}'s home? => {m} lives in {v}. @city
What does {m} like? | What makes {m} happy? | What is {m} fond of? => {m} likes {v}. @open
What is {m}? | What do you call {m}? | Tell me what {m} is. | What does {m} mean? | What is meant by {m}? => {m} is a {n}. | {m} is a {v}. | {m} means {v}. @open
How do I {x}? | What is the way to {x}? | How can I {x}? | What should I do to {x}? => To {x}, {x2}. | You {x2}. | {X2}. @act
Can I {x}? | May I {x}? | Am I allowed to {x}? | Is it fine to {x}? => Yes, but you must {x2}. | No, you have to {x2}. | Yes, if you {x2}. @act
When should I {x}? | At what time should I {x}? | When is the right time to {x}? => {X} at {v}. | You should {x} on {v}. @when
Where should I {x}? | In which place can I {x}? | Where is it best to {x}? => {X} in the {v}. | You can {x} in the {v}. @place
Why does the {n} {w}? | What is the reason that the {n} {w}s? | For what reason does the {n} {w}? => Because {z}. | The {n} {w}s because {z}. @act
"""

VERBS = """ask bring build call carry catch change charge check choose clean close collect count cover cut
deliver draw drop dry empty fill find fix fold follow give grow hang heat hide hold keep lift light load
lock make mark measure mix move open order pack paint park pay plant press print pull push put read remove
rent repair replace report return ring send serve shake share sign slide sort store sweep swing take tie
touch train turn type use wait wash water weigh wipe write""".split()

# Ways to ask the same: a pattern, "=>", what may stand in its place. The order does not matter.
REWORD = r"""
^What is your favorite (.+)\?$ => What \1 do you like best? | Which \1 do you like most? | Which \1 do you love? | What \1 do you prefer? | Which \1 is your favorite? | What is the \1 that you like best? | Your favorite \1? | Is there a \1 that you love? | Which \1 would you choose? | Do you have a favorite \1? | What \1 are you fond of? | What kind of \1 do you like?
^What is your ((?!.*(?:called|like|for|made of)\?).+)\?$ => Tell me your \1. | Please tell me your \1. | Could you tell me your \1? | Can you tell me your \1? | What \1 do you have? | Which \1 do you have? | Which \1 is yours? | Your \1? | And your \1? | Your \1, please. | May I have your \1? | I need your \1. | What would your \1 be? | What about your \1? | Tell me what your \1 is. | What did you say your \1 was? | Give me your \1. | What is the \1 that you have? | And what is your \1? | I would like to know your \1. | Do you have a \1?
^(?:What|How) is (.+) called\?$ => What is the name of \1? | What is \1's name? | What name does \1 have? | Which name has \1? | Can you tell me \1's name? | Tell me the name of \1. | Please tell me the name of \1. | How is \1 called? | What do you call \1? | What is \1 named? | By what name is \1 known? | What do people call \1? | The name of \1, please. | How do you call \1?
^What is the name of (.+)\?$ => What is \1 called? | What is \1's name? | What name does \1 have? | Can you tell me \1's name? | Tell me the name of \1. | Please tell me the name of \1. | How is \1 called? | What do you call \1? | What is \1 named? | The name of \1? | Do you know the name of \1?
^What is the (\w+) of (.+)\?$ => What \1 does \2 have? | Which \1 has \2? | Which \1 does \2 have? | Tell me the \1 of \2. | Can you tell me the \1 of \2? | What is \2's \1? | The \1 of \2, please. | \2 has what \1? | I need the \1 of \2. | Give me the \1 of \2.
^(What|Who|Where|When) is (.+)\?$ => Tell me \1 \2 is. | Could you tell me \1 \2 is? | I would like to know \1 \2 is. | Do you know \1 \2 is? | \1 is it: \2? | Can you say \1 \2 is? | And \1 is \2?
^(What|Who|Where|When|How|Which|In which|In what|On what|At what|On which)( .+?)? do you (.+)\?$ => Tell me \1\2 you \3. | Please tell me \1\2 you \3. | Could you tell me \1\2 you \3? | I want to know \1\2 you \3. | Do you know \1\2 you \3? | Can you tell me \1\2 you \3? | I would like to know \1\2 you \3. | And \1\2 do you \3?
^What do you (.+)\?$ => What is it that you \1? | Which thing do you \1? | What thing do you \1? | Tell me what you \1. | Say what you \1. | What would you \1? | What else do you \1? | What do you usually \1? | What can you \1?
^What are you (.+)\?$ => What thing are you \1? | Tell me what you are \1. | What is it that you are \1? | Which thing are you \1?
^(?:What|Which) (.+?) do you (.+)\?$ => Which \1 can you \2? | What \1 can you \2? | What is the \1 that you \2? | Which \1 is it that you \2? | What kind of \1 do you \2? | Is there a \1 that you \2? | Which \1 did you say that you \2?
^(?:What|Which) (.+?) (do|does|did|are|is) (.+) (in|on|at|for|to|with|from|by)\?$ => \4 which \1 \2 \3? | \4 what \1 \2 \3? | What is the \1 that \3 \4?
^(In|On|At|For|To|With|From|By) (?:what|which) (.+?) (do|does|did|are|is|can|should) (.+)\?$ => What \2 \3 \4 \1? | Which \2 \3 \4 \1?
^What (\w+) (do|does|did|are|can|should) => Which \1 \2
^Which (\w+) (do|does|did|are|can|should) => What \1 \2
^Where (do|does|did) (.+)\?$ => In which place \1 \2? | In what place \1 \2? | At which place \1 \2? | Where exactly \1 \2? | In what town \1 \2? | In which city \1 \2?
^When (do|does|did) (.+)\?$ => At what time \1 \2? | What time \1 \2? | On which day \1 \2? | At which hour \1 \2? | When exactly \1 \2?
^When does (.+)\?$ => When will \1? | Tell me when \1. | From when does \1?
^How (?:do|can|should) I (.+)\?$ => What do I do to \1? | What is the way to \1? | What must I do to \1? | Tell me how to \1. | How does one \1? | I want to \1. How? | I have to \1. What do I do? | Show me how to \1. | How do you \1? | How would I \1? | What do I need to \1? | What should I do to \1? | What do I use to \1? | How do we \1? | Can you tell me how to \1? | I would like to \1. | What is the best way to \1?
^(?:How much is|What does it cost to) (.+)\?$ => What does \1 cost? | How much does \1 cost? | What do I pay for \1? | What is the price of \1? | How expensive is \1? | What do you charge for \1? | Tell me the price of \1. | How much money is \1? | How much do you want for \1? | What do people pay for \1?
^(?:What|How much) does (.+) cost\?$ => How much is \1? | What is the price of \1? | What do I pay for \1? | How expensive is \1? | How much does \1 cost? | What do you charge for \1? | Tell me what \1 costs. | How much must I pay for \1?
^How (long|often|many|much|old|big|heavy|fast) (.+)\?$ => Tell me how \1 \2. | Do you know how \1 \2? | And how \1 \2? | How \1 exactly \2?
^How long (do|does|can|is) (.+)\?$ => How much time \1 \2? | For how long \1 \2? | For what time \1 \2? | How many days \1 \2?
^Who (\w+s) (.+)\?$ => Which person \1 \2? | Tell me who \1 \2. | Who is it that \1 \2? | Do you know who \1 \2? | Is there somebody who \1 \2? | What is the name of the one who \1 \2? | Who \1 \2 here? | What is the person called who \1 \2? | Who was it that \1 \2?
^Who (is|owns|has|runs|leads) (.+)\?$ => Which person \1 \2? | Who exactly \1 \2? | What is the name of the one who \1 \2? | Tell me who \1 \2.
(turn|switch) (on|off) (the [\w ]+?)\?$ => \1 \3 \2? | \1 \3 \2 again?
(turn|switch|bring|take|put) (the [\w ]+?) (on|off|back|out) => \1 \3 \2
\b[Dd]o I\b => should I | can I | must I | would I
\b(?:should|can|may) I\b => do I | must I | may I | am I to | do we
\bcan be\b => is | should be | has to be
\b(?:job|profession|occupation)\b => job | work | profession | occupation | trade
\b(?:town|city|place)\b => town | city | place | village
\b(?:fix|repair|mend)\b => fix | repair | mend
\b(?:buy|get)\b => buy | get | purchase
\b(?:start|begin)\b => start | begin
\b(?:phone|telephone)\b => phone | telephone | mobile
\b(?:film|movie)\b => film | movie
\b(?:shop|store)\b => shop | store
\b(?:big|large)\b => big | large
\b(?:last|family) name\b => last name | family name | surname
\bfirst name\b => first name | given name
\b(?:meal|food|dish)\b => meal | food | dish
\b(?:like best|like most|love most|prefer|love)\b => like best | like most | love most | prefer | love | enjoy most
\b(?:looks after|takes care of|is in charge of|is responsible for)\b => looks after | takes care of | is in charge of | is responsible for | cares for | sees to
\b(?:allowed|permitted)\b => allowed | permitted | welcome
\b(?:turn|switch) on\b => turn on | switch on | start
\b(?:turn|switch) off\b => turn off | switch off | stop
\b(?:does not work|is broken)\b => does not work | is broken | has stopped working | has gone wrong
\b(?:clean|wash)\b => clean | wash | wipe
\bmembers\b => members | people
^What is\b => What's
^(Who|Where|When|How) is\b => \1's
"""

HEADERS = """Questions and answers|Handbook|Manual|Frequently asked questions|About {e}|All about {e}|{e}: the
handbook|Notes on {e}|Welcome to {e}|Things to know|What everybody asks|Help|Guide|{e}|Questions about {e} and
their answers|Information|Getting to know {e}|Here are some questions and their answers.|Read this first.|The
answers to our questions are these.|A short manual for {e}|Facts about {e}""".replace(
    "\n", " "
).split("|")


# ----------------------------------------------------------------------------------------------
# Facts that stay the same throughout, so that there is something to know and to forget
# ----------------------------------------------------------------------------------------------

CAPITALS = """Argentina Buenos-Aires, Australia Canberra, Austria Vienna, Belgium Brussels, Bolivia La-Paz, Brazil
Brasilia, Bulgaria Sofia, Canada Ottawa, Chile Santiago, China Beijing, Colombia Bogota, Croatia Zagreb, Cuba
Havana, Denmark Copenhagen, Ecuador Quito, Egypt Cairo, England London, Estonia Tallinn, Ethiopia Addis-Ababa,
Finland Helsinki, France Paris, Germany Berlin, Ghana Accra, Greece Athens, Hungary Budapest, Iceland Reykjavik,
India New-Delhi, Indonesia Jakarta, Iran Tehran, Iraq Baghdad, Ireland Dublin, Italy Rome, Japan Tokyo, Kenya Nairobi,
Latvia Riga, Lithuania Vilnius, Mexico Mexico-City, Mongolia Ulaanbaatar, Morocco Rabat, Nepal Kathmandu, Norway
Oslo, Peru Lima, Poland Warsaw, Portugal Lisbon, Romania Bucharest, Russia Moscow, Scotland Edinburgh, Serbia
Belgrade, Spain Madrid, Sweden Stockholm, Switzerland Bern, Thailand Bangkok, Tunisia Tunis, Turkey Ankara, Ukraine Kyiv,
Uruguay Montevideo, Vietnam Hanoi, Wales Cardiff"""
OPPOSITES = """hot cold, big small, old new, day night, up down, left right, open closed, fast slow, hard soft, light
dark, wet dry, full empty, rich poor, happy sad, strong weak, early late, long short, high low, near far, inside
outside, true false, thick thin, loud quiet, sweet sour, clean dirty, heavy light, first last, begin end, buy sell,
push pull, give take, win lose, love hate, laugh cry, ask answer, north south, east west, summer winter, black white,
young old, good bad, easy difficult, before after, always never, friend enemy, question answer, tall short, wide
narrow, sharp blunt, brave afraid, deep shallow"""
COLORED = """grass green, snow white, blood red, coal black, milk white, a-lemon yellow, the-sky blue, a-tomato red,
chocolate brown, a-carrot orange, the-sun yellow, a-frog green, a-raven black, a-flamingo pink, a-cucumber green,
a-banana yellow, an-elephant gray, a-swan white, sand yellow, ink black"""
YOUNG = """dog puppy, cat kitten, cow calf, horse foal, sheep lamb, goat kid, pig piglet, hen chick, duck duckling, goose
gosling, bear cub, frog tadpole, deer fawn, swan cygnet, lion cub, kangaroo joey, owl owlet, butterfly caterpillar"""
SOUNDS = """dog barks, cat meows, cow moos, horse neighs, sheep bleats, pig grunts, duck quacks, lion roars, bee buzzes,
snake hisses, owl hoots, wolf howls, mouse squeaks, frog croaks, rooster crows, bird sings"""
KINDS = """rose flower, tulip flower, oak tree, pine tree, willow tree, robin bird, eagle bird, hawk bird, salmon fish,
trout fish, shark fish, ant insect, beetle insect, bee insect, apple fruit, pear fruit, banana fruit, carrot vegetable,
potato vegetable, onion vegetable, piano instrument, violin instrument, trumpet instrument, hammer tool, saw tool,
wrench tool, gold metal, iron metal, copper metal, chess game, tennis sport, football sport, red color, green color,
chair piece-of-furniture, table piece-of-furniture, shirt piece-of-clothing, car vehicle, bus vehicle, rain kind-of-weather"""
PAST = """go went, see saw, eat ate, drink drank, run ran, write wrote, sing sang, swim swam, buy bought, bring brought,
think thought, take took, give gave, come came, find found, make made, say said, tell told, sleep slept, break broke,
fly flew, know knew, read read, sit sat, stand stood, speak spoke, drive drove, begin began, keep kept, lose lost"""
ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen \
seventeen eighteen".split()
)


def pairs(text: str) -> list[tuple[str, str]]:
    """The pairs of a comma-separated list; a hyphen stands for a space inside a word."""
    return [tuple(w.replace("-", " ") for w in pair.split()) for pair in text.split(",")]


def known_facts() -> list[list[tuple[str, str]]]:
    """Every fact that the corpus repeats, each as its wordings: (text up to the answer, answer)."""
    facts = []
    for a, b in pairs(CAPITALS):
        facts.append([(f"The capital of {a} is", b), (f"{b} is the capital of", a)])
    for a, b in pairs(OPPOSITES):
        facts.append([(f"The opposite of {a} is", b)])
    for a, b in pairs(COLORED):
        facts.append([(f"The color of {a} is", b), (f"{a[0].upper() + a[1:]} is", b)])
    for a, b in pairs(YOUNG):
        facts.append([(f"A young {a} is called a", b)])
    for a, b in pairs(SOUNDS):
        facts.append([(f"A {a}" if a != "owl" else "An owl", b)])
    for a, b in pairs(KINDS):
        facts.append([(f"{'An' if a[0] in 'aeio' else 'A'} {a} is a kind of", b)])
    for a, b in pairs(PAST):
        facts.append([(f"Today I {a}, yesterday I", b)])
    for word, names in (("month", MONTHS), ("day", DAYS)):
        for a, b in zip(names, names[1:] + names[:1]):
            facts.append([(f"The {word} after {a} is", b), (f"The {word} before {b} is", a)])
    for a in range(10):
        for b in range(a, 10):
            facts.append(
                [(f"{a} + {b} =", str(a + b)), (f"{ONES[a]} plus {ONES[b]} is", ONES[a + b])]
            )
    return facts


# ----------------------------------------------------------------------------------------------
# Values: from everywhere, so that reading them is the only way to know them
# ----------------------------------------------------------------------------------------------

ONSETS = "b c d f g h j k l m n p r s t v w z b d f g h k l m n p r s t b d k l m n p r s t br ch cl cr dr fl fr gl gr kl kr pl pr qu sh sk sl sm sn sp st str th tr tw x y".split()
VOWELS = "a a a e e e i i o o u ai au ea ee ia ie io oa oo ou ue y é ö ü".split()
CODAS = [
    "",
    "",
    "",
    "",
] + "b ck d f g k l ll m n nd ng nt p r rd rk rn rt s sh ss st t th x z".split()


WORDS = (NOUNS, NOUNS, ADJECTIVES, THINGS, NAMES, SURNAMES, CITIES, VERBS, ROLES)


def made_up(rng: Rng) -> str:
    """A word that nobody has seen, of one to four syllables."""
    pick = rng.choice
    if rng.free and rng.random() < 0.35:  # the front of one word and the back of another
        front, back = pick(pick(WORDS)).lower(), pick(pick(WORDS)).lower()
        word = front[: rng.randrange(1, len(front))] + back[rng.randrange(1, len(back)) :]
        return word if len(word) > 2 else front + back
    word = "".join(
        pick(ONSETS)
        + (pick(VOWELS[:-3]) if rng.random() < 0.98 else pick(VOWELS))
        + (pick(CODAS) if rng.random() < 0.55 else "")
        for _ in range(pick((1, 2, 2, 2, 2, 3, 3)))
    )
    if rng.random() < 0.1:
        word = pick("aeiou") + word
    return word if len(word) > 2 else word + pick(ONSETS) + pick("aeio")


def number(rng: Rng) -> str:
    """Digits, mostly; now and then a word."""
    return (
        str(rng.randrange(10 ** rng.choice((1, 2, 2, 3, 4))))
        if rng.random() < 0.8
        else rng.choice(ONES)
    )


def code(rng: Rng) -> str:
    """A key, an address, a telephone number, a command: what has to be copied sign by sign."""
    w = lambda: made_up(rng) if rng.random() < 0.7 else rng.choice(NOUNS)
    d = lambda n: "".join(rng.choice("0123456789") for _ in range(n))
    return rng.choice(
        (
            lambda: f"{w()}@{w()}.{rng.choice(('com', 'org', 'example', 'net'))}",
            lambda: f"www.{w()}.{rng.choice(('com', 'org', 'example', 'net'))}",
            lambda: d(rng.choice((3, 4, 6, 7))),
            lambda: f"{d(3)}-{d(4)}",
            lambda: f"+{d(2)} {d(3)} {d(4)}",
            lambda: "".join(
                rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789")
                for _ in range(rng.choice((2, 3, 4, 5)))
            ),
            lambda: f"{w().upper()}-{d(2)}",
            lambda: f"{w()}{d(2)}",
            lambda: f"`{w()} --{w()} {d(1)}`",
            lambda: f"`{w()}.{w()}({w()})`",
            lambda: f"{w()}_{w()}",
            lambda: f'"{w()}"',
            lambda: f"/{w()}/{w()}.txt",
            lambda: f"Ctrl+{rng.choice('ABCDEFGHIJKLMNOPQRSTUVWXYZ')}",
        )
    )()


def open_value(rng: Rng) -> str:
    """One to three words, made up or not, with or without capitals, or a number or a code."""

    def word() -> str:
        """A word, some of them made up."""
        x = rng.random()
        w = (
            made_up(rng)
            if x < 0.5
            else rng.choice(NOUNS if x < 0.8 else ADJECTIVES if x < 0.9 else THINGS)
        )
        return w

    x = rng.random()
    if x < 0.08:
        return number(rng)
    if x < 0.14:
        return code(rng)
    words = [word() for _ in range(rng.choice((1, 1, 1, 2, 2, 3)))]
    if rng.random() < 0.5:
        words = [w.capitalize() for w in words]
    if len(words) == 3 and rng.random() < 0.5:
        words[1] = rng.choice(("of", "and", "in", "with", "for", "on"))
    return " ".join(words)


def noun(rng: Rng) -> str:
    """A thing to ask about: mostly one word, sometimes two, sometimes made up."""
    x = rng.random()
    if x < 0.55:
        return rng.choice(NOUNS)
    if x < 0.7:
        return f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
    if x < 0.85:
        return f"{rng.choice(NOUNS)} {rng.choice(NOUNS)}"
    return made_up(rng) if x < 0.95 else f"{made_up(rng)} {rng.choice(NOUNS)}"


def person(rng: Rng) -> str:
    """A first name, or a first and a last one; mostly made up."""
    x = rng.random()
    first = rng.choice(NAMES) if x < 0.35 else made_up(rng).capitalize()
    if rng.random() < 0.65:
        return first
    return f"{first} {rng.choice(SURNAMES) if rng.random() < 0.4 else made_up(rng).capitalize()}"


def action(rng: Rng) -> str:
    """A verb phrase: "turn the blue handle"."""
    verb = rng.choice(VERBS)
    x = rng.random()
    if x < 0.55:
        return f"{verb} the {noun(rng)}"
    if x < 0.7:
        return f"{verb} the {noun(rng)} {rng.choice(('in', 'to', 'on', 'under', 'behind', 'from', 'with', 'before', 'after'))} the {noun(rng)}"
    if x < 0.8:
        return f"{verb} the {noun(rng)} {rng.choice(('twice', 'slowly', 'at once', 'for ' + span(rng), 'three times', 'first', 'every day'))}"
    if x < 0.9:
        return f"{verb} {rng.choice(('a', 'your', 'all', 'some', 'one'))} {noun(rng)}"
    return f"run {code(rng)}" if x < 0.94 else f"ask {person(rng)}"


def span(rng: Rng) -> str:
    """A length of time."""
    return f"{number(rng)} {rng.choice(('minutes', 'hours', 'days', 'weeks', 'months', 'years', 'seconds'))}"


def clock(rng: Rng) -> str:
    """A time of day."""
    h, m = rng.randrange(1, 13), rng.randrange(0, 60, 5)
    return rng.choice(
        (
            f"{h}:{m:02}",
            f"{h} o'clock",
            f"half past {ONES[h]}",
            f"{h} am",
            f"{h} pm",
            ONES[h],
            f"{h}:{m:02} am",
        )
    )


VALUES = {
    "name": person,
    "number": number,
    "city": lambda r: r.choice(CITIES) if r.random() < 0.35 else made_up(r).capitalize(),
    "role": lambda r: (
        r.choice(ROLES) if r.random() < 0.7 else f"{r.choice(NOUNS)} {r.choice(ROLES)}"
    ),
    "open": open_value,
    "date": lambda r: r.choice(
        (
            r.choice(MONTHS),
            f"{r.choice(MONTHS)} {r.randrange(1, 29)}",
            f"{r.randrange(1, 29)} {r.choice(MONTHS)}",
        )
    ),
    "color": lambda r: (
        r.choice(COLORS) if r.random() < 0.7 else f"{r.choice(ADJECTIVES)} {r.choice(COLORS)}"
    ),
    "food": lambda r: r.choice(FOODS) if r.random() < 0.5 else noun(r),
    "hobby": lambda r: r.choice(HOBBIES).strip() if r.random() < 0.5 else action(r),
    "pet": lambda r: (
        r.choice(PETS) if r.random() < 0.5 else f"{r.choice(ADJECTIVES)} {r.choice(PETS)}"
    ),
    "noun": noun,
    "code": code,
    "time": clock,
    "when": lambda r: clock(r) if r.random() < 0.4 else r.choice(DAYS + MONTHS),
    "day": lambda r: (
        r.choice(DAYS)
        if r.random() < 0.7
        else f"the {r.choice(('first', 'second', 'third', 'last'))} {r.choice(DAYS)}"
    ),
    "title": lambda r: " ".join(["The"] * r.randrange(2) + [open_value(r)]).title(),
    "amount": lambda r: (
        f"{number(r)} {r.choice(('kg', 'cm', 'meters', 'liters', 'percent', 'degrees', 'grams', 'miles', 'km an hour', 'pounds', 'watts'))}"
    ),
    "money": lambda r: r.choice(
        (
            f"{number(r)} dollars",
            f"{number(r)} euros",
            f"${number(r)}",
            f"{number(r)} coins",
            f"{number(r)}.50 pounds",
            "nothing",
        )
    ),
    "span": span,
    "place": lambda r: r.choice(PLACES) if r.random() < 0.5 else noun(r),
}


def value(rng: Rng, kind: str) -> str:
    """A value of its kind; two times in five any value at all, so that no list can be learnt."""
    if kind == "act" or rng.random() < 0.4:
        return open_value(rng)
    return VALUES[kind](rng)


# ----------------------------------------------------------------------------------------------
# Entries: a question's wordings and its answer
# ----------------------------------------------------------------------------------------------


def frames(text: str) -> list[tuple[list[str], list[str], str]]:
    """(wordings, forms of the answer, kind of value) for each line of a table above."""
    rows = []
    for line in text.strip().splitlines():
        questions, rest = line.split("=>")
        answers, kind = rest.rsplit("@", 1)
        rows.append(
            (
                [q.strip() for q in questions.split("|")],
                [a.strip() for a in answers.split("|")],
                kind.strip(),
            )
        )
    return rows


PERSON, PLACE, GENERIC = frames(PERSON), frames(PLACE), frames(GENERIC)
INSIDE = re.compile(r"(?<=[a-z,] )(?:What|Who|Where|When|How|Which|In|On|At|For|To|With|From|By)\b")
REWORD = [
    (re.compile(pattern.strip()), [form.strip() for form in forms.split(" | ")])
    for pattern, forms in (line.split(" => ") for line in REWORD.strip().splitlines())
]
YOU = {
    "your": "your",
    "Your": "Your",
    "you": "you",
    "yours": "yours",
    "do": "do you",
    "Do": "Do you",
    "are": "are you",
    "My": "My",
    "my": "my",
    "I": "I",
    "am": "am",
    "me": "me",
    "s": "",
    "es": "",
    "You": "You",
}


def third(name: str, rng: Rng) -> dict:
    """The slots of PERSON for a text about somebody else."""
    he, his, him = rng.choice((("he", "his", "him"), ("she", "her", "her")))
    they = rng.choice((name, he.capitalize()))
    return {
        "your": f"{name}'s",
        "Your": f"{name}'s",
        "you": name,
        "yours": f"{name}'s",
        "do": f"does {name}",
        "Do": f"Does {name}",
        "are": f"is {name}",
        "My": rng.choice((f"{name}'s", his.capitalize())),
        "my": his,
        "I": they,
        "am": "is",
        "me": him,
        "s": "s",
        "es": "es",
    }


def place_slots(rng: Rng, name: str) -> dict:
    """The slots of PLACE: a shop, a club, a school, spoken to or spoken of."""
    if rng.random() < 0.5:
        return {
            "your": "your",
            "you": "you",
            "you_": "your " + rng.choice(("shop", "club", "company", "school", "team", "group")),
            "do": "do you",
            "does": "do you",
            "are": "are you",
            "are_": "are",
            "We": "We",
            "Our": "Our",
            "us": "us",
            "s": "",
            "have": "have",
        }
    the = (
        name
        if rng.random() < 0.4
        else "the "
        + rng.choice(
            "shop club company school team group choir library museum bakery cafe hotel gym garage market hospital studio".split()
        )
    )
    return {
        "your": "the",
        "you": the,
        "you_": the,
        "do": f"does {the}",
        "does": f"does {the}",
        "are": f"is {the}",
        "are_": "are",
        "We": rng.choice(("We", the[0].upper() + the[1:])),
        "Our": "Our",
        "us": "us",
        "s": "",
        "have": "have",
    }


def entry(rng: Rng, frame: tuple, slots: dict) -> tuple[list[str], str]:
    """(wordings of a question, its answer) with every slot filled."""
    questions, answers, kind = frame
    x, x2 = action(rng), action(rng)
    verb, rest = x.split(" ", 1)
    filled = {
        "v": value(rng, kind),
        "n": noun(rng),
        "a": rng.choice(THINGS),
        "r": rng.choice(ROLES),
        "m": person(rng),
        "x": x,
        "X": x[0].upper() + x[1:],
        "x2": x2,
        "X2": x2[0].upper() + x2[1:],
        "y": f"{verb}s {rest}",
        "z": f"the {noun(rng)} is {rng.choice(ADJECTIVES)}",
        "h": action(rng),
        "w": rng.choice(VERBS),
        "have": "have",
        **slots,
    }
    if kind == "act" and "{x}" in "".join(questions):  # the answer is the second action
        filled["v"] = x2
    wordings = [fill(q, filled) for q in questions]
    answer = fill(rng.choice(answers), filled)
    return wordings, free_form(rng, answer, filled["v"]) if rng.free else answer


def free_form(rng: Rng, answer: str, v: str) -> str:
    """The answer as somebody else might give it: shorter, or with more around it."""
    x = rng.random()
    if x < 0.5:
        return answer
    start, who, thing = answer[0].lower() + answer[1:], person(rng), noun(rng)
    if x < 0.68:
        before = (
            "Well, ",
            "Of course, ",
            "As far as I know, ",
            "Yes, ",
            "Oh, ",
            "You see, ",
            "In fact, ",
            "These days ",
            f"{who} says that ",
            f"Since {number(rng)}, ",
            f"Like {who}, ",
            f"With a {thing}, ",
            "I believe that ",
        )
        return rng.choice(before) + (answer if answer.startswith("I ") else start)
    if x < 0.86:
        after = (
            f", and {action(rng)}.",
            f", with a {thing}.",
            f", not {open_value(rng)}.",
            ", as everybody knows.",
            ", very slowly.",
            f", like {who}.",
            f" or {open_value(rng)}.",
            ", and nothing else.",
            f", for {span(rng)}.",
            f", but {action(rng)} first.",
            f", says {who}.",
            f" because the {thing} is {rng.choice(ADJECTIVES)}.",
            f"; ask {who}.",
            f", since {rng.choice(DAYS)}.",
        )
        return answer.rstrip(".") + rng.choice(after)
    short = (
        f"{v}",
        f"{v}.",
        f"It is {v}.",
        f"{v}, of course.",
        f"That is {v}.",
        f"Only {v}.",
        f"{v} or {open_value(rng)}.",
        f"Try {v}.",
    )
    text = rng.choice(short)
    return text[0].upper() + text[1:]


def any_sentence(rng: Rng) -> str:
    """A sentence that answers no question in particular: where to find it is all that can be known."""
    who, thing = person(rng), noun(rng)
    a, b = action(rng), action(rng)
    return rng.choice(
        (
            f"{a[0].upper() + a[1:]} and {b}.",
            f"{a[0].upper() + a[1:]} until the {thing} is {rng.choice(ADJECTIVES)}.",
            f"{who} will {a}.",
            f"A {rng.choice(ADJECTIVES)} {thing} means that you have to {a}.",
            f"You can {a} if you {b}.",
            f"The {thing} has the {rng.choice(THINGS)} {open_value(rng)}.",
            f"Ask {who}, who can {a}.",
            f"{rng.choice(DAYS)} at {clock(rng)}, in the {thing}.",
            f"Every {noun(rng)} of {open_value(rng)} has one {thing}.",
            f"No, but {who} does.",
            f"{who} and {person(rng)}, with the {thing}.",
            f"It was the {thing} in {number(rng)}.",
        )
    )


def reworded(rng: Rng, question: str) -> str:
    """The question asked in another of the ways that REWORD knows; as it is where none fits."""
    fitting = [(pattern, forms) for pattern, forms in REWORD if pattern.search(question)]
    if not fitting:
        return question
    pattern, forms = rng.choice(fitting)
    text = INSIDE.sub(
        lambda word: word[0].lower(), pattern.sub(rng.choice(forms), question, count=1)
    )
    return text[0].upper() + text[1:]


def fill(text: str, slots: dict) -> str:
    """The text with its slots filled, and a capital at the start."""
    text = text.format_map(slots)
    return text[0].upper() + text[1:]


def rough(rng: Rng, question: str) -> str:
    """The question as people type it: now and then with a word more or less."""
    if rng.free and rng.random() < 0.55:
        question = reworded(rng, question)
        if rng.random() < 0.3:
            question = reworded(rng, question)
    x = rng.random()
    if x < 0.80:
        return question
    if x < 0.84:
        return question.lower()
    if x < 0.87:
        return question.rstrip("?")
    if x < 0.90:
        words = question.split()
        words.pop(rng.randrange(len(words)))
        return " ".join(words) or question
    if x < 0.97:
        before = rng.choice(
            (
                "Please tell me: ",
                "Excuse me, ",
                "Hello! ",
                "Tell me, ",
                "Say, ",
                "I want to know: ",
                "And ",
                "One more thing: ",
                "Remind me, ",
                "So, ",
                "Do you know? ",
                "Quick question: ",
                "Now tell me. ",
            )
        )
        return before + (question if before[-2] in ":!?." else question[0].lower() + question[1:])
    return question.rstrip("?") + rng.choice(
        (", please?", " again?", " exactly?", " now?", ", do you know?", " then?", " here?")
    )


def neighbors(rng: Rng, table: list, count: int) -> list:
    """`count` frames, in runs of up to three that stand together: these are the easiest to mix up."""
    chosen = []
    while len(chosen) < count:
        at = rng.randrange(len(table))
        chosen += [
            i for i in range(at, min(at + rng.choice((1, 1, 2, 3)), len(table))) if i not in chosen
        ]
    chosen = chosen[:count]
    rng.shuffle(chosen)
    return [table[i] for i in chosen]


def entries(rng: Rng, count: int) -> tuple[str, list[tuple[list[str], str]]]:
    """(what they are about, entries) such that no two entries of a document ask the same."""
    x = rng.random()
    name = person(rng) if x < 0.5 else open_value(rng)
    if x < 0.40:
        slots = YOU if rng.random() < 0.75 else third(name, rng)
        rows = [entry(rng, f, slots) for f in neighbors(rng, PERSON, count)]
    elif x < 0.54:
        slots = place_slots(rng, name)
        rows = [entry(rng, f, slots) for f in neighbors(rng, PLACE, count)]
    elif x < 0.68:  # all about one thing
        slots = {
            "n": rng.choice((noun(rng), "machine")),
            "r": rng.choice(ROLES),
            "a": rng.choice(THINGS),
        }
        asked = [f for f in GENERIC if "{n}" in f[0][0]]
        rows = [entry(rng, f, slots) for f in neighbors(rng, asked, count)]
        if rng.random() < 0.4:
            it = re.compile(rf"\bthe {re.escape(slots['n'])}\b(?!')")
            rows = [
                ([it.sub("it", w) if rng.random() < 0.5 else w for w in ws], a) for ws, a in rows
            ]
    elif x < 0.82:  # a few questions about a few things: both have to be matched
        chosen = rng.sample(GENERIC, rng.choice((1, 2, 3, 4)))
        things = [
            {
                "n": noun(rng),
                "m": person(rng),
                "a": rng.choice(THINGS),
                "r": rng.choice(ROLES),
                "h": action(rng),
            }
            for _ in range(count)
        ]
        rows = [entry(rng, f, t) for f in chosen for t in things]
        rng.shuffle(rows)
    else:
        rows = [entry(rng, f, {}) for f in neighbors(rng, GENERIC, count)]
        if rng.random() < 0.5:
            slots = place_slots(rng, name)
            rows[: count // 2] = [entry(rng, f, slots) for f in rng.sample(PLACE, count // 2)]
    seen, unique = set(), []
    for wordings, answer in rows:
        if wordings[0] not in seen and answer not in seen:
            seen |= {wordings[0], answer}
            unique.append((wordings, answer))
    return name, unique[:count]


# ----------------------------------------------------------------------------------------------
# Documents
# ----------------------------------------------------------------------------------------------

STYLES = (
    ("{q}\n{a}\n\n", 18),
    ("{q}\n{a}\n", 2),
    ("Q: {q}\nA: {a}\n", 2),
    ("Q: {q}\nA: {a}\n\n", 2),
    ("Question: {q}\nAnswer: {a}\n\n", 2),
    ("{q} {a}\n", 2),
    ("- {q}\n  {a}\n", 1),
    ("## {q}\n\n{a}\n\n", 1),
    ("User: {q}\nAssistant: {a}\n", 1),
)


def manual(rng: Rng) -> str:
    """Questions and answers, then the same things asked back in other words: how to look things up."""
    name, rows = entries(rng, rng.choice((2, 2, 3, 3, 4, 4, 5, 6, 8, 10, 12, 12)))
    style = rng.choices([s for s, _ in STYLES], [w for _, w in STYLES])[0]
    header = rng.choice(HEADERS).strip().format(e=name) + rng.choice(
        ("\n\n", "\n\n", "\n", ":\n\n", ".\n\n")
    )
    text = header if rng.random() < 0.97 or not style[0].isalnum() else ""
    if rng.free:
        answers = [any_sentence(rng) if rng.random() < 0.15 else answer for _, answer in rows]
        if rng.random() < 0.1:
            rng.shuffle(answers)
        rows = [(wordings, answer) for (wordings, _), answer in zip(rows, answers)]
    for wordings, answer in rows:
        text += style.format(q=rough(rng, rng.choice(wordings)), a=answer)
    for _ in range(rng.randrange(len(rows), len(rows) + 7)):
        wordings, answer = rng.choice(rows)
        text += style.format(q=rough(rng, rng.choice(wordings)), a=answer)
        if len(text) > 1300:  # about WINDOW tokens
            break
    return text.rstrip("\n")


def profile(rng: Rng) -> str:
    """Statements in prose, then questions about them."""
    name, rows = entries(rng, rng.choice((2, 3, 4, 5, 6, 8)))
    style = rng.choices([s for s, _ in STYLES], [w for _, w in STYLES])[0]
    text = rng.choice(
        ("", "", f"{name}\n\n", f"About {name}\n\n", f"This is about {name}. ", "Read this text. ")
    )
    text += (
        " ".join(answer for _, answer in rows)
        + "\n\n"
        + rng.choice(("", "", "Questions\n\n", "Now the questions.\n\n"))
    )
    for _ in range(rng.randrange(len(rows), 2 * len(rows) + 2)):
        wordings, answer = rng.choice(rows)
        text += style.format(q=rough(rng, rng.choice(wordings)), a=answer)
    return text.rstrip("\n")


def form(rng: Rng) -> str:
    """Questions that nobody has answered: forms, surveys, questionnaires. First name, then last name."""
    x = rng.random()
    plain = rng.random() < 0.8
    word = (lambda w: w[0]) if plain else rng.choice
    if x < 0.6:
        slots = YOU if rng.random() < 0.9 else third(rng.choice(NAMES), rng)
        chosen = sorted(rng.sample(range(2, len(PERSON)), rng.randrange(3, 12)))
        if rng.random() < 0.3:
            rng.shuffle(chosen)
        if rng.random() < 0.5:
            chosen = [0, 1] + chosen
        rows = [entry(rng, PERSON[i], slots)[0] for i in chosen]
    else:
        slots = place_slots(rng, made_up(rng).capitalize())
        n = {"n": noun(rng)} if rng.random() < 0.4 else {}
        rows = [entry(rng, f, slots)[0] for f in rng.sample(PLACE, rng.randrange(2, 6))]
        rows += [entry(rng, f, n)[0] for f in rng.sample(GENERIC, rng.randrange(2, 7))]
        rng.shuffle(rows)
    lines = [word(w) if plain else rough(rng, word(w)) for w in rows]
    title = rng.choice(
        (
            "Registration form",
            "Survey",
            "Questionnaire",
            "Application form",
            "Interview questions",
            "Please fill in",
        )
    )
    style = rng.random()
    if style < 0.75:
        return "\n".join(lines)
    if style < 0.85:
        return title + "\n\n" + "\n".join(f"{i}. {line}" for i, line in enumerate(lines, 1))
    if style < 0.95:
        return title + "\n\n" + "\n".join(lines)
    return title + "\n\n" + "\n".join(f"{line} ________" for line in lines)


KNOWN = known_facts()


def facts(rng: Rng) -> str:
    """Things that are so, in no order."""
    chosen = rng.sample(KNOWN, rng.randrange(3, 14))
    lines = []
    for wordings in chosen:
        before, after = wordings[0] if rng.random() < 0.7 else rng.choice(wordings)
        lines.append(f"{before} {after}." if before[-1] != "=" else f"{before} {after}")
    return rng.choice(("\n", " ", "\n")).join(lines)


def story(rng: Rng) -> str:
    """A few sentences about somebody, with something that comes back."""
    who, friend, thing, other, where = (
        person(rng),
        person(rng),
        noun(rng),
        noun(rng),
        value(rng, "city"),
    )
    he, his, him = rng.choice((("he", "his", "him"), ("she", "her", "her")))
    He = he.capitalize()
    adj, kind = rng.choice(ADJECTIVES), rng.choice(ROLES)
    middle = [
        f"{He} wanted to {action(rng)}, but the {thing} was {adj}.",
        f"{He} looked for the {other} and found {his} {thing} instead.",
        f'{friend} said, "I will {action(rng)} for you."',
        f'"Where is my {thing}?" asked {who}. "It is in the {other}," said {friend}.',
        f"On {rng.choice(DAYS)} the {kind} came to see the {thing}.",
        f"It was {rng.choice(ADJECTIVES)} in {where}, and the {other} was {rng.choice(ADJECTIVES)}.",
        f"{friend} gave {him} {rng.choice(('a', 'the', 'one'))} {other}.",
        f'"Thank you, {friend}," said {who}.',
        f"So {he} took the {thing} and went to {value(rng, 'city')}.",
        f"{He} {rng.choice(('thought', 'knew', 'hoped'))} that the {other} would {rng.choice(VERBS)} the {thing}.",
        f"At {clock(rng)} {he} was tired and went home.",
        f"Everybody in {where} liked the {thing}; nobody liked the {other}.",
        f"There was only one rule: {action(rng)}!",
        f"The {thing} cost {VALUES['money'](rng)}, so {he} asked {friend} to pay.",
    ]
    rng.shuffle(middle)
    start = rng.choice(
        (
            f"Once there was a {kind} called {who} who lived in {where}.",
            f"{who} was a {adj} {kind} from {where}.",
            f"One day in {rng.choice(MONTHS)}, {who} found a {thing} in the {other}.",
            f"In {where} there lived a {kind}. {He} was called {who}.",
            f"{who} and {friend} had a {thing}.",
            f"Dear {friend},\n\nI am writing to you from {where}.",
        )
    )
    end = rng.choice(
        (
            f"In the end {who} was happy.",
            f"And {who} never saw the {thing} again.",
            f"From that day {who} and {friend} were friends.",
            f"That is the story of {who} and the {thing}.",
            f"The {thing} is still in {where} today.",
        )
    )
    return " ".join([start, *middle[: rng.randrange(2, 8)], end])


def report(rng: Rng) -> str:
    """Notices, instructions, descriptions of products and places: the prose of offices and shops."""
    name, rows = entries(rng, rng.choice((2, 3, 4, 5)))
    x = rng.random()
    if x < 0.35:
        return f"How to {action(rng)}\n\n" + "\n".join(
            f"{i}. {a[0].upper() + a[1:]}."
            for i, a in enumerate([action(rng) for _ in range(rng.randrange(2, 7))], 1)
        )
    if x < 0.7:
        return " ".join(f"{answer}" for _, answer in rows)
    return "\n".join([name, ""] + [f"- {answer}" for _, answer in rows])


def copies(rng: Rng) -> str:
    """Made-up words and codes, each list written twice or more: the plainest lesson in copying."""
    words = [
        open_value(rng) if rng.random() < 0.7 else code(rng) for _ in range(rng.randrange(3, 16))
    ]
    x = rng.random()
    if x < 0.5:
        sep = rng.choice((" ", ", ", "\n", "; ", " - "))
        return rng.choice(("\n", "\n\n", " | ")).join([sep.join(words)] * rng.choice((2, 2, 3)))
    keys = [made_up(rng) if rng.random() < 0.5 else noun(rng) for _ in words]
    sep = rng.choice((": ", " = ", " -> ", " is ", "\t"))
    both = [f"{k}{sep}{w}" for k, w in zip(keys, words)]
    again = rng.choices(both, k=rng.randrange(len(both), 2 * len(both)))
    return "\n".join(both) + "\n\n" + "\n".join(again)


def program(rng: Rng) -> str:
    """A little code and markup, so that every printable character stands somewhere."""
    w = lambda: made_up(rng) if rng.random() < 0.5 else rng.choice(NOUNS)
    n = lambda: rng.randrange(100)
    a, b, c = w(), w(), w()
    parts = [
        f"def {a}({b}, {c}={n()}):\n    if {b} > {n()}:\n        return {c} * {n()}\n    return {b} + {c}\n",
        f'for {a} in range({n()}):\n    print({a}, "{b}")\n',
        f"{a} = [{n()}, {n()}, {n()}]\nprint(len({a}))\n",
        f'{{"{a}": "{b}", "{c}": {n()}, "{w()}": [{n()}, {n()}]}}\n',
        f"$ {a} --{b} {n()} | {c} > {w()}.txt\n",
        f'<{a} class="{b}">{c} & {w()}</{a}>\n',
        f"import {a}\n\nclass {b.capitalize()}({a}.{c.capitalize()}):\n    pass\n",
        f"let {a} = {n()} % {n()}; // {b}\nif ({a} != {n()}) {{ {c}(); }}\n",
        f"# {a} {b}\n\n* {c}: {n()}^2 ~ {n()}\n* `{w()}`\n",
        f"SELECT {a}, {b} FROM {c} WHERE {a} = '{w()}';\n",
        f"{a}@{b}:~$ cd /{c}\\{w()}\n",
        f"{a}?{b}={n()}&{c}={n()}\n",
    ]
    return "\n".join(rng.sample(parts, rng.randrange(1, 4))).rstrip("\n")


MAKERS = (
    (manual, 54),
    (profile, 12),
    (form, 14),
    (facts, 16),
    (story, 7),
    (report, 4),
    (copies, 8),
    (program, 3),
)


def document(seed: int, i: int) -> str:
    """Document i of the corpus; the same arguments give the same text, on any machine."""
    rng = Rng(f"{seed}/{i}")
    rng.free = rng.random() < i / FREE_FROM
    makers, weights = zip(*MAKERS)
    while True:
        text = rng.choices(makers, weights)[0](rng)
        if not any(word in text for word in HELD_OUT):
            return text


# ----------------------------------------------------------------------------------------------
# Tokens
# ----------------------------------------------------------------------------------------------


def train_tokenizer(seed: int) -> Tokenizer:
    """Byte-level BPE (as GPT-2's) of CONFIG's vocabulary; digits stand alone, so numbers can be copied."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"],
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((document(seed, -1 - i) for i in range(10_000)), trainer)
    return tokenizer


def batches(
    tokenizer: Tokenizer, seed: int, first: int
) -> Iterator[tuple[mx.array, mx.array, int]]:
    """(tokens (batch, length + 1), real lengths (batch,), next document) from document `first` on.

    Documents of like length share a batch; each ends with the end-of-text token.
    """
    waiting = {length: [] for length in LENGTHS}
    while True:
        ready = []
        for encoded in tokenizer.encode_batch([document(seed, first + i) for i in range(1500)]):
            row = (encoded.ids + [CONFIG["eos_token_id"]])[: WINDOW + 1]
            length = next(n for n in LENGTHS if n >= len(row) - 1)
            waiting[length].append(row)
            if len(waiting[length]) == BATCH // length:
                ready.append((length, waiting[length]))
                waiting[length] = []
        first += 1500
        Random(first).shuffle(ready)
        for length, rows in ready:
            padded = [row + [0] * (length + 1 - len(row)) for row in rows]
            yield mx.array(padded), mx.array([len(row) for row in rows]), first


# ----------------------------------------------------------------------------------------------
# On a processor alone: MLX takes 20 ns for an exponential there and 0.3 ns for a product, so the
# exponentials of attention, SwiGLU and the loss are made of products. Same functions, 1.5 times faster.
# ----------------------------------------------------------------------------------------------


def exp(x: mx.array) -> mx.array:
    """e ** x for x <= 0, within 0.1 % above -5, as (1 + y + y² / 2) ** 256 with y = x / 256."""
    y = mx.maximum(x, -30.0) * (
        1 / 256
    )  # the floor keeps products with it out of the slow denormals
    y = 1 + y + 0.5 * y * y
    for _ in range(8):
        y = y * y
    return y


@mx.custom_function
def softmax(x):
    """Softmax over the last axis."""
    e = exp(x - mx.max(x, -1, keepdims=True))
    return e * (1 / mx.sum(e, -1, keepdims=True))


@softmax.vjp
def softmax_vjp(primals, cotangent, output):
    """s (c - sum(c s)), with s the softmax and c the cotangent."""
    return output * (cotangent - mx.sum(cotangent * output, -1, keepdims=True))


def attention(queries, keys, values, cache=None, scale=1.0, mask=None):
    """Causal attention, (batch, heads, tokens, head_dim); whole texts, so no cache and no mask."""
    length = queries.shape[2]
    future = mx.triu(mx.full((length, length), -1e9), 1)
    return softmax((queries * scale) @ keys.swapaxes(-1, -2) + future) @ values


def sigmoid(x):
    """1 / (1 + e ** -x), by exponentials of what is not positive."""
    s = 1 / (1 + exp(-mx.abs(x)))
    return mx.where(x < 0, 1 - s, s)


@mx.custom_function
def swiglu(gate, x):
    """SiLU of the gate, times x (Shazeer 2020, arXiv 2002.05202)."""
    return gate * sigmoid(gate) * x


@swiglu.vjp
def swiglu_vjp(primals, cotangent, output):
    """Gradients by the gate and by x."""
    gate, x = primals
    s = sigmoid(gate)
    return cotangent * x * s * (1 + gate * (1 - s)), cotangent * gate * s


@mx.custom_function
def cross_entropy(logits, targets):
    """Nats for each target: (..., vocabulary) and (...) give (...)."""
    top = mx.max(logits, -1, keepdims=True)
    chosen = mx.take_along_axis(logits, targets[..., None], -1)
    return mx.log(mx.sum(exp(logits - top), -1)) + (top - chosen)[..., 0]


@cross_entropy.vjp
def cross_entropy_vjp(primals, cotangent, output):
    """Softmax minus one at the target; targets have no gradient."""
    logits, targets = primals
    at = targets[..., None]
    gradient = softmax(logits) * cotangent[..., None]
    there = mx.take_along_axis(gradient, at, -1) - cotangent[..., None]
    return mx.put_along_axis(gradient, at, there, -1), mx.zeros_like(targets)


def use_products() -> None:
    """Puts the functions above in the place of mlx-lm's, and lets malloc keep large blocks."""
    llama.scaled_dot_product_attention = attention
    llama.swiglu = swiglu
    if sys.platform == "linux":  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD: see mallopt(3)
        for parameter, number in ((-4, 0), (-1, 2**31 - 1), (-2, 2**27)):
            ctypes.CDLL(None).mallopt(parameter, number)


# ----------------------------------------------------------------------------------------------
# Training
# ----------------------------------------------------------------------------------------------


def new_model(seed: int) -> llama.Model:
    """A Llama that knows nothing: normal weights, those that write to the residual stream smaller."""
    mx.random.seed(seed)
    model = llama.Model(llama.ModelArgs.from_dict(CONFIG))

    def start(name: str, weight: mx.array) -> mx.array:
        """The random numbers that a weight starts from."""
        if weight.ndim < 2:
            return weight
        writes = "o_proj" in name or "down_proj" in name
        std = (
            0.02
            if "embed" in name
            else weight.shape[-1] ** -0.5
            * (0.5 / (2 * CONFIG["num_hidden_layers"]) ** 0.5 if writes else 0.6)
        )
        return mx.random.normal(weight.shape) * std

    return model.update(
        tree_unflatten([(n, start(n, w)) for n, w in tree_flatten(model.parameters())])
    )


def optimizer_for(steps: int) -> optim.Optimizer:
    """Muon (Jordan 2024) for the matrices, AdamW for the rest; warm-up, then constant, then down to 2 %."""

    def schedule(rate: float):
        """The learning rate by step: warm-up, constant, then down to 2 %."""
        return lambda step: (
            rate
            * mx.minimum(
                mx.minimum(step / 100, 1.0), mx.maximum((steps - step) / (0.55 * steps), 0.02)
            )
        )

    return optim.MultiOptimizer(
        [
            optim.Muon(schedule(MUON_RATE), weight_decay=0.0),
            optim.AdamW(schedule(ADAM_RATE), betas=(0.9, 0.95), weight_decay=0.0),
        ],
        [lambda name, weight: weight.ndim == 2 and "embed" not in name],
    )


def loss_fn(model: nn.Module, tokens: mx.array, lengths: mx.array, entropy) -> mx.array:
    """Mean cross-entropy (nats) of each next token; padding does not count."""
    mask = mx.arange(1, tokens.shape[1]) < lengths[:, None]
    return (entropy(model(tokens[:, :-1]), tokens[:, 1:]) * mask).sum() / mask.sum()


OPENINGS = (
    "What is your first name?",
    "Where do you live?",
    "When do you open?",
    "What is your job?",
    "How do I open the box?",
)


def continuation(model: nn.Module, tokenizer: Tokenizer, text: str) -> str:
    """The line that the model puts after the text."""
    ids = []
    for token, _ in generate_step(mx.array(tokenizer.encode(text).ids), model, max_tokens=40):
        ids.append(token)
        if token == CONFIG["eos_token_id"] or "\n" in tokenizer.decode(ids).lstrip("\n"):
            break
    return tokenizer.decode(ids).strip()


def sample(model: nn.Module, tokenizer: Tokenizer) -> str:
    """What it says after the beginnings of a form, of a fact, and of a story."""
    texts = ("What is your first name?", "The capital of France is", "In Oslo there lived a")
    return "says: " + "; ".join(f"{t} -> {continuation(model, tokenizer, t)!a}" for t in texts)


def abilities(model: nn.Module, tokenizer: Tokenizer) -> str:
    """Does it go on with a form? Does it read answers from its context, in other words than asked there?"""
    rng, right, asked = Rng("abilities"), 0, 0
    while asked < 40:
        _, rows = entries(rng, 8)
        text = as_manual((wordings[0], answer) for wordings, answer in rows)
        wordings, answer = rng.choice(rows)
        if len(rows) > 3 and len(wordings) > 2 and len(tokenizer.encode(text).ids) < 420:
            asked += 1
            right += continuation(model, tokenizer, text + rng.choice(wordings[1:])) == answer
    train, test = (checks.load_examples(LESSON / "data" / f"{s}.jsonl") for s in ("train", "test"))
    first = {e.completion: e.prompt for e in reversed(train)}
    text = as_manual((prompt, answer) for answer, prompt in reversed(first.items()))
    known = [continuation(model, tokenizer, text + e.prompt) == e.completion for e in test]
    after = [continuation(model, tokenizer, question) for question in OPENINGS]
    forms = sum(line.endswith("?") for line in after)
    return (
        f"answers from context: {right} of {asked}; the lesson's: {sum(known)} of {len(known)}; "
        f"continues a form: {forms} of {len(after)} ({after[0]})"
    )


def as_manual(rows: Iterable[tuple[str, str]]) -> str:
    """Questions and answers, as main.py puts them before a question."""
    return "Questions and answers\n\n" + "".join(f"{q}\n{a}\n\n" for q, a in rows)


def save(folder: Path, arrays: dict[str, dict], texts: dict[str, str]) -> None:
    """Writes every file beside its place, then moves it there, so that none is ever half written."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tensors in arrays.items():
        mx.save_safetensors(str(folder / f"new-{name}"), tensors, {"format": "pt"})
    for name, text in texts.items():
        (folder / f"new-{name}").write_text(text)
    for name in [*arrays, *texts]:
        os.replace(folder / f"new-{name}", folder / name)


def save_checkpoint(folder: Path, model, optimizer, tokenizer: Tokenizer, progress: dict) -> None:
    """All that is needed to go on from here."""
    arrays = {"model.safetensors": model.parameters(), "optimizer.safetensors": optimizer.state}
    texts = {"tokenizer.json": tokenizer.to_str(), "progress.json": json.dumps(progress)}
    save(folder, {name: dict(tree_flatten(tree)) for name, tree in arrays.items()}, texts)


def load_checkpoint(folder: Path, model, optimizer) -> tuple[Tokenizer, dict]:
    """(tokenizer, progress); the weights and the optimizer's state go where they belong."""
    model.load_weights(str(folder / "model.safetensors"))
    optimizer.state = tree_unflatten(list(mx.load(str(folder / "optimizer.safetensors")).items()))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return tokenizer, json.loads((folder / "progress.json").read_text())


def train(model, optimizer, tokenizer: Tokenizer, progress: dict, args, entropy) -> None:
    """Next-token prediction until `args.tokens` have been seen; a checkpoint every 150 steps."""
    state = [model.state, optimizer.state]
    loss_and_grad = nn.value_and_grad(model, partial(loss_fn, entropy=entropy))

    @partial(mx.compile, inputs=state, outputs=state)
    def step(tokens, lengths):
        """One step of training; gives the loss, in nats, before it."""
        loss, gradients = loss_and_grad(model, tokens, lengths)
        gradients, _ = optim.clip_grad_norm(gradients, 1.0)
        optimizer.update(model, gradients)
        return loss

    losses, start = [], time.perf_counter() - progress["seconds"]
    if not progress["step"]:
        print("   ", sample(model, tokenizer), flush=True)
    for tokens, lengths, following in batches(tokenizer, args.seed, progress["document"]):
        loss = step(tokens, lengths)
        mx.eval(loss, state)
        losses.append(loss.item())
        progress["step"] += 1
        progress["tokens"] += int(lengths.sum()) - len(lengths)
        progress["seconds"] = time.perf_counter() - start
        progress["document"] = following
        done = progress["tokens"] >= args.tokens
        if progress["step"] % 20 == 0 or done:
            print(
                f"step {progress['step']}  {progress['tokens'] / 1e6:.2f} M tokens  "
                f"loss {fmean(losses):.3f}  {progress['tokens'] / progress['seconds']:.0f} tokens/s  "
                f"{progress['seconds'] / 60:.1f} min",
                flush=True,
            )
            losses.clear()
        if progress["step"] in (100, 1000) or done:
            print("   ", sample(model, tokenizer), flush=True)
        if progress["step"] % 150 == 0 or done:
            print("   ", abilities(model, tokenizer), flush=True)
            save_checkpoint(args.out / "checkpoint", model, optimizer, tokenizer, progress)
            start = time.perf_counter() - progress["seconds"]  # the looking and saving do not count
        if done:
            return


def main(args: argparse.Namespace) -> None:
    """Makes the model, or goes on with it, and leaves it in the Hugging Face layout."""
    entropy = nn.losses.cross_entropy
    if mx.default_device() == mx.Device(mx.cpu):
        use_products()
        entropy = cross_entropy
    checkpoint = args.out / "checkpoint"
    model, optimizer = new_model(args.seed), optimizer_for(math.ceil(args.tokens / (0.85 * BATCH)))
    optimizer.init(model.trainable_parameters())
    if (checkpoint / "progress.json").exists():
        tokenizer, progress = load_checkpoint(checkpoint, model, optimizer)
    else:
        tokenizer, progress = train_tokenizer(args.seed), dict.fromkeys(PROGRESS, 0)
    parameters = sum(w.size for _, w in tree_flatten(model.parameters()))
    print(f"{parameters:,} parameters, {progress}", flush=True)
    train(model, optimizer, tokenizer, progress, args, entropy)
    texts = {"config.json": CONFIG, "tokenizer_config.json": TOKENIZER_CONFIG}
    save(
        args.out,
        {"model.safetensors": dict(tree_flatten(model.parameters()))},
        {name: json.dumps(config, indent=2) + "\n" for name, config in texts.items()}
        | {"tokenizer.json": tokenizer.to_str()},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=float, default=17e6, help="how many tokens to train on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out",
        type=Path,
        default=LESSON / "assets" / "base-model",
        help="where the model goes; a checkpoint/ folder is kept there",
    )
    main(parser.parse_args())
