"""Which labels of AudioSet are kinds of which: a bark is a dog's, and a dog is an animal.

AudioSet ontology: Google, https://research.google.com/audioset/ontology/, CC BY 4.0. Nodes that are no labels
are left out, and their children taken for those of the label above.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

_CHILDREN = """
Speech: Male speech, man speaking; Female speech, woman speaking; Child speech, kid speaking;
    Conversation; Narration, monologue; Babbling; Speech synthesizer
Shout: Bellow; Whoop; Yell; Battle cry; Children shouting
Laughter: Baby laughter; Giggle; Snicker; Belly laugh; Chuckle, chortle
Crying, sobbing: Baby cry, infant cry; Whimper
Singing: Choir; Yodeling; Chant; Male singing; Female singing; Child singing; Synthetic singing; Rapping
Chant: Mantra
Breathing: Wheeze; Snoring; Gasp; Pant; Snort
Cough: Throat clearing
Hands: Finger snapping; Clapping
Heart sounds, heartbeat: Heart murmur
Animal: Domestic animals, pets; Livestock, farm animals, working animals; Wild animals
Domestic animals, pets: Dog; Cat
Dog: Bark; Yip; Howl; Bow-wow; Growling; Whimper (dog)
Cat: Purr; Meow; Hiss; Caterwaul; Growling
Livestock, farm animals, working animals: Horse; Cattle, bovinae; Pig; Goat; Sheep; Fowl
Horse: Clip-clop; Neigh, whinny
Cattle, bovinae: Moo; Cowbell
Pig: Oink
Goat: Bleat
Sheep: Bleat
Fowl: Chicken, rooster; Turkey; Duck; Goose
Chicken, rooster: Cluck; Crowing, cock-a-doodle-doo
Turkey: Gobble
Duck: Quack
Goose: Honk
Wild animals: Roaring cats (lions, tigers); Bird; Canidae, dogs, wolves; Rodents, rats, mice; Insect;
    Frog; Snake; Whale vocalization
Roaring cats (lions, tigers): Roar; Growling
Bird: Bird vocalization, bird call, bird song; Pigeon, dove; Crow; Owl; Bird flight, flapping wings
Bird vocalization, bird call, bird song: Chirp, tweet; Squawk
Pigeon, dove: Coo
Crow: Caw
Owl: Hoot
Canidae, dogs, wolves: Howl; Growling
Rodents, rats, mice: Mouse; Patter
Insect: Cricket; Mosquito; Fly, housefly; Bee, wasp, etc.
Fly, housefly: Buzz
Bee, wasp, etc.: Buzz
Frog: Croak
Snake: Hiss; Rattle
Music: Musical instrument; Pop music; Hip hop music; Rock music; Rhythm and blues; Soul music; Reggae;
    Country; Funk; Folk music; Middle Eastern music; Jazz; Disco; Classical music; Electronic music; Music
    of Latin America; Blues; Music for children; New-age music; Vocal music; Music of Africa; Christian
    music; Music of Asia; Ska; Traditional music; Independent music; Song; Background music; Theme music;
    Jingle (music); Soundtrack music; Lullaby; Video game music; Christmas music; Dance music; Wedding
    music; Happy music; Funny music; Sad music; Tender music; Exciting music; Angry music; Scary music
Musical instrument: Plucked string instrument; Keyboard (musical); Percussion; Orchestra; Brass
    instrument; Bowed string instrument; Wind instrument, woodwind instrument; Harp; Choir; Bell;
    Harmonica; Accordion; Bagpipes; Didgeridoo; Shofar; Theremin; Singing bowl; Scratching (performance
    technique)
Plucked string instrument: Guitar; Banjo; Sitar; Mandolin; Zither; Ukulele
Guitar: Electric guitar; Bass guitar; Acoustic guitar; Steel guitar, slide guitar; Tapping (guitar
    technique); Strum
Keyboard (musical): Piano; Organ; Synthesizer; Harpsichord
Piano: Electric piano
Organ: Electronic organ; Hammond organ
Synthesizer: Sampler
Percussion: Drum kit; Drum; Cymbal; Cowbell; Wood block; Tambourine; Rattle (instrument); Gong; Tubular
    bells; Mallet percussion
Drum kit: Drum machine
Drum: Snare drum; Bass drum; Timpani; Tabla
Snare drum: Rimshot; Drum roll
Cymbal: Hi-hat
Rattle (instrument): Maraca
Mallet percussion: Marimba, xylophone; Glockenspiel; Vibraphone; Steelpan
Brass instrument: French horn; Trumpet; Trombone
Bowed string instrument: String section; Violin, fiddle; Cello; Double bass
Violin, fiddle: Pizzicato
Wind instrument, woodwind instrument: Flute; Saxophone; Clarinet
Bell: Church bell; Cowbell; Jingle bell; Bicycle bell; Tuning fork; Chime; Change ringing (campanology)
Chime: Wind chime
Hip hop music: Beatboxing
Rock music: Heavy metal; Punk rock; Grunge; Progressive rock; Rock and roll; Psychedelic rock
Country: Swing music; Bluegrass
Classical music: Opera
Electronic music: House music; Techno; Dubstep; Drum and bass; Electronica; Electronic dance music;
    Ambient music; Trance music
Music of Latin America: Salsa music; Flamenco
Vocal music: A capella; Chant; Beatboxing
Music of Africa: Afrobeat
Christian music: Gospel music
Music of Asia: Carnatic music; Music of Bollywood
Wind: Rustling leaves; Wind noise (microphone)
Thunderstorm: Thunder
Water: Rain; Stream; Waterfall; Ocean; Steam; Gurgling
Rain: Raindrop; Rain on surface
Ocean: Waves, surf
Steam: Hiss
Fire: Crackle
Vehicle: Boat, Water vehicle; Motor vehicle (road); Rail transport; Aircraft; Bicycle; Skateboard
Boat, Water vehicle: Sailboat, sailing ship; Rowboat, canoe, kayak; Motorboat, speedboat; Ship
Motor vehicle (road): Car; Truck; Bus; Emergency vehicle; Motorcycle; Traffic noise, roadway noise
Car: Vehicle horn, car horn, honking; Car alarm; Power windows, electric windows; Skidding; Tire squeal;
    Car passing by; Race car, auto racing
Vehicle horn, car horn, honking: Toot
Truck: Air brake; Air horn, truck horn; Reversing beeps; Ice cream truck, ice cream van
Emergency vehicle: Police car (siren); Ambulance (siren); Fire engine, fire truck (siren)
Rail transport: Train; Railroad car, train wagon; Train wheels squealing; Subway, metro, underground
Train: Train whistle; Train horn
Aircraft: Aircraft engine; Helicopter; Fixed-wing aircraft, airplane
Aircraft engine: Jet engine; Propeller, airscrew
Bicycle: Bicycle bell
Engine: Light engine (high frequency); Medium engine (mid frequency); Heavy engine (low frequency); Jet
    engine; Engine knocking; Engine starting; Idling; Accelerating, revving, vroom
Light engine (high frequency): Dental drill, dentist's drill; Lawn mower; Chainsaw
Door: Doorbell; Sliding door; Slam; Knock; Tap; Squeak
Doorbell: Ding-dong
Toothbrush: Electric toothbrush
Typing: Typewriter; Computer keyboard
Alarm: Telephone; Alarm clock; Siren; Doorbell; Buzzer; Smoke detector, smoke alarm; Fire alarm; Car
    alarm; Vehicle horn, car horn, honking; Bicycle bell; Air horn, truck horn; Foghorn; Whistle
Telephone: Telephone bell ringing; Ringtone; Telephone dialing, DTMF; Dial tone; Busy signal
Siren: Police car (siren); Ambulance (siren); Fire engine, fire truck (siren); Civil defense siren
Whistle: Steam whistle
Mechanisms: Ratchet, pawl; Clock; Gears; Pulleys; Sewing machine; Mechanical fan; Air conditioning; Cash
    register; Printer; Camera
Clock: Tick; Tick-tock
Camera: Single-lens reflex camera
Tools: Hammer; Jackhammer; Sawing; Filing (rasp); Sanding; Power tool
Power tool: Drill
Drill: Dental drill, dentist's drill
Explosion: Gunshot, gunfire; Fireworks; Burst, pop; Eruption; Boom
Gunshot, gunfire: Machine gun; Fusillade; Artillery fire; Cap gun
Fireworks: Firecracker
Wood: Chop; Splinter; Crack
Glass: Chink, clink; Shatter
Liquid: Splash, splatter; Squish; Drip; Pour; Fill (with liquid); Spray; Pump (liquid); Stir; Boiling
Splash, splatter: Slosh
Pour: Trickle, dribble; Gush
Arrow: Whoosh, swoosh, swish; Thump, thud
Thump, thud: Thunk
Effects unit: Chorus effect
Clicking: Tick; Clip-clop; Clickety-clack
Sine wave: Harmonic; Chirp tone
Noise: Environmental noise; Static; Mains hum; Distortion; Sidetone; Hubbub, speech noise, speech babble;
    Cacophony; White noise; Pink noise; Throbbing; Vibration
"""


@cache
def _children() -> dict[str, tuple[str, ...]]:
    lines = _CHILDREN.replace("\n    ", " ").strip().splitlines()
    return {parent: tuple(below.split("; ")) for parent, below in (line.split(": ", 1) for line in lines)}


def below(labels: Iterable[str]) -> frozenset[str]:
    """All labels that are kinds of the given ones, at any depth, and those themselves."""
    known = set(labels)
    new = set(known)
    while new:
        new = {child for label in new for child in _children().get(label, ())} - known
        known |= new
    return frozenset(known)
